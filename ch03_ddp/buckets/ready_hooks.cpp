// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/ready_hooks.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

namespace dai::ddp {
namespace {

using torch::autograd::variable_list;

class CallReady : public torch::autograd::FunctionPostHook {
 public:
  CallReady(std::shared_ptr<ReadyHooks::OnReady> on_ready,
            std::size_t parameter)
      : on_ready_(std::move(on_ready)), parameter_(parameter) {}

  variable_list operator()(const variable_list& outputs,
                           const variable_list&) override {
    (*on_ready_)(parameter_);
    return outputs;
  }

 private:
  const std::shared_ptr<ReadyHooks::OnReady> on_ready_;
  const std::size_t parameter_;
};

}  // namespace

struct ReadyHooks::Hooked {
  // A parameter holds its node weakly; without this the hook would go with it.
  std::shared_ptr<torch::autograd::Node> node;
  std::uintptr_t key = 0;
};

ReadyHooks::ReadyHooks(const std::vector<intro::NamedParameter>& parameters,
                       OnReady on_ready) {
  const auto shared = std::make_shared<OnReady>(std::move(on_ready));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].tensor.requires_grad()) continue;
    Hooked hooked{
        torch::autograd::impl::grad_accumulator(parameters[i].tensor)};
    hooked.key =
        hooked.node->add_post_hook(std::make_unique<CallReady>(shared, i));
    hooked_.push_back(std::move(hooked));
  }
}

ReadyHooks::~ReadyHooks() {
  for (const Hooked& hooked : hooked_) hooked.node->del_post_hook(hooked.key);
}

}  // namespace dai::ddp
