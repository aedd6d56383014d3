// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/cpu_product.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <stdexcept>
#include <string_view>

namespace dai::intro {
namespace {

// PyTorch's operator around oneDNN's matrix product; torch.compile calls it
// too. It has no function in ATen's headers.
at::Tensor onednn_product(const at::Tensor& a, const at::Tensor& b) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
      std::string_view, c10::List<std::optional<at::Scalar>>,
      std::optional<std::string_view>);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<Signature>();
  return op.call(a, b, std::nullopt, "none",
                 c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

struct FusedLinear : torch::autograd::Function<FusedLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& x, const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return product(rows, weight.contiguous()).view(shape);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      const torch::autograd::variable_list& grads) {
    if (at::GradMode::is_enabled()) {
      throw std::logic_error(
          "fused_linear: differentiating twice (create_graph) is not "
          "supported; at::linear can");
    }
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor weight = saved[1].contiguous();
    const at::Tensor dy =
        grads[0].reshape({-1, weight.size(0)}).contiguous();  // [rows, out]
    torch::autograd::variable_list out(2);
    if (context->needs_input_grad(0)) {
      out[0] = product(dy, weight.t()).view(x.sizes());
    }
    if (context->needs_input_grad(1)) {
      const at::Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
      out[1] = product(dy.t(), rows.t());
    }
    return out;
  }
};

}  // namespace

bool onednn_is_faster() {
#if defined(__x86_64__)
  static const bool faster = !__builtin_cpu_is("intel") &&
                             __builtin_cpu_supports("avx2") &&
                             at::globalContext().hasMKLDNN();
  return faster;
#else
  return false;
#endif
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autocast_dispatch_keyset);
  const bool empty = a.numel() == 0 || b.numel() == 0;
  return onednn_is_faster() && !empty ? onednn_product(a, b) : at::mm(a, b.t());
}

at::Tensor fused_linear(const at::Tensor& x, const at::Tensor& weight) {
  const bool ours = onednn_is_faster() && x.is_cpu() && weight.dim() == 2 &&
                    x.dim() >= 1 && x.size(-1) == weight.size(1) &&
                    x.scalar_type() == at::kFloat &&
                    weight.scalar_type() == at::kFloat &&
                    !at::autocast::is_autocast_enabled(at::kCPU);
  return ours ? FusedLinear::apply(x, weight) : at::linear(x, weight);
}

}  // namespace dai::intro
