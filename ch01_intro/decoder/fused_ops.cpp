// SPDX-License-Identifier: Apache-2.0

// The upper rung of decoder_ops.h: what autograd and autocast see. Each
// operation is one node in the graph with a gradient written by hand; the
// computations are the device's (fused_device.h).

#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <stdexcept>
#include <string>

#include "ch01_intro/decoder/cpu_product.h"
#include "ch01_intro/decoder/decoder_op_checks.h"
#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/decoder/fused_device.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const FusedDevice& fused_for(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return fused_cpu();
  if (tensor.is_cuda()) return fused_cuda();
  throw std::invalid_argument("fused operations: CPU or CUDA is expected, " +
                              tensor.device().str() + " given");
}

void check_type(const char* op, const at::Tensor& tensor) {
  if (tensor.scalar_type() != at::kFloat &&
      tensor.scalar_type() != at::kBFloat16) {
    throw std::invalid_argument(
        fmt::format("fused {}: float32 or bfloat16 is expected, {} given", op,
                    c10::toString(tensor.scalar_type())));
  }
}

void check_pair(const char* op, const at::Tensor& a, const at::Tensor& b) {
  check_type(op, a);
  if (a.device() != b.device()) {
    throw std::invalid_argument(fmt::format("fused {}: tensors on {} and {}",
                                            op, a.device().str(),
                                            b.device().str()));
  }
}

bool wants_gradient(const at::Tensor& tensor) {
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

// Gradients here are plain numbers: nothing leads from them back to inputs.
void refuse_second_derivative(const char* op) {
  if (at::GradMode::is_enabled()) {
    throw std::logic_error(
        fmt::format("fused {}: differentiating twice (create_graph) is not "
                    "supported; naive_ops() can",
                    op));
  }
}

// Tensor operations below do what they are told, also under autocast.
struct NoAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::autocast_dispatch_keyset};
};

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, double eps) {
    const NoAutocast plain;
    const auto [y, inverse_rms] =
        fused_for(x).rms_norm(x, weight.to(at::kFloat), eps);
    context->save_for_backward({x, weight, inverse_rms});
    return y;
  }

  static variable_list backward(AutogradContext* context,
                                const variable_list& grads) {
    refuse_second_derivative("rms_norm");
    const auto saved = context->get_saved_variables();
    auto [dx, dweight] = fused_for(saved[0]).rms_norm_backward(
        grads[0], saved[0], saved[1].to(at::kFloat), saved[2],
        {context->needs_input_grad(0), context->needs_input_grad(1)});
    if (dweight.defined()) dweight = dweight.to(saved[1].scalar_type());
    return {dx, dweight, at::Tensor()};
  }
};

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& cos, const at::Tensor& sin) {
    context->saved_data["cos"] = cos;  // constants, not inputs to differentiate
    context->saved_data["sin"] = sin;
    return fused_for(x).rope(x, {cos, sin}, 1);
  }

  // A rotation's transpose rotates back.
  static variable_list backward(AutogradContext* context,
                                const variable_list& grads) {
    refuse_second_derivative("rope");
    const RopeTable table{context->saved_data["cos"].toTensor(),
                          context->saved_data["sin"].toTensor()};
    return {fused_for(grads[0]).rope(grads[0], table, -1), at::Tensor(),
            at::Tensor()};
  }
};

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate,
                            const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return fused_for(gate).swiglu(gate, up);
  }

  static variable_list backward(AutogradContext* context,
                                const variable_list& grads) {
    refuse_second_derivative("swiglu");
    const auto saved = context->get_saved_variables();
    const auto [dgate, dup] =
        fused_for(saved[0]).swiglu_backward(grads[0], saved[0], saved[1]);
    return {dgate, dup};
  }
};

// The loss is a sum and its gradient is linear in what comes from above: so the
// gradients are made in the forward pass, while the logits are in cache, and
// the backward pass only scales them.
struct ChunkedTokenLoss : torch::autograd::Function<ChunkedTokenLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& head, const at::Tensor& targets,
                            at::ScalarType type, bool want_hidden,
                            bool want_head) {
    const NoAutocast plain;
    LossAndGradients result = fused_for(hidden).token_loss(
        hidden, head, targets, type, {want_hidden, want_head});
    context->saved_data["dhidden"] = std::move(result.dhidden);
    context->saved_data["dhead"] = std::move(result.dhead);
    return std::move(result.loss);
  }

  static variable_list backward(AutogradContext* context,
                                const variable_list& grads) {
    refuse_second_derivative("token_loss");
    // Handed out, not kept: the caller may add into them in place.
    const auto take = [&](const char* name) {
      const auto found = context->saved_data.find(name);
      if (found == context->saved_data.end()) {
        throw std::logic_error(
            "fused token_loss: backward twice through one loss "
            "(retain_graph) is not supported; compute the loss again");
      }
      at::Tensor tensor = std::move(found->second).toTensor();
      context->saved_data.erase(found);
      return tensor;
    };
    variable_list out{take("dhidden"), take("dhead")};
    // On CUDA a look at the number would wait for the device.
    const bool is_one =
        grads[0].is_cpu() && *grads[0].const_data_ptr<float>() == 1.0F;
    for (at::Tensor& gradient : out) {
      if (gradient.defined() && !is_one) gradient.mul_(grads[0]);
    }
    out.resize(6);
    return out;
  }
};

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  RECORD_FUNCTION("dai::rms_norm", c10::ArrayRef<const c10::IValue>{});
  check_rms_norm(x, weight);
  check_pair("rms_norm", x, weight);
  if (!wants_gradient(x) && !wants_gradient(weight)) {
    const at::AutoDispatchBelowAutograd plain;
    const NoAutocast no_autocast;
    return fused_for(x).rms_norm(x, weight.to(at::kFloat), eps)[0];
  }
  return RmsNorm::apply(x, weight, eps);
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table) {
  RECORD_FUNCTION("dai::rope", c10::ArrayRef<const c10::IValue>{});
  check_rope(x, table);
  check_pair("rope", x, table.cos);
  if (!wants_gradient(x)) {
    const at::AutoDispatchBelowAutograd plain;
    return fused_for(x).rope(x, table, 1);
  }
  return Rope::apply(x, table.cos, table.sin);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  RECORD_FUNCTION("dai::swiglu", c10::ArrayRef<const c10::IValue>{});
  check_swiglu(gate, up);
  check_pair("swiglu", gate, up);
  if (gate.scalar_type() != up.scalar_type()) {
    throw std::invalid_argument("fused swiglu: gate and up differ in type");
  }
  if (!wants_gradient(gate) && !wants_gradient(up)) {
    const at::AutoDispatchBelowAutograd plain;
    return fused_for(gate).swiglu(gate, up);
  }
  return SwiGlu::apply(gate, up);
}

// The type of the matrix products: autocast's inside its guard.
at::ScalarType product_type(const at::Tensor& hidden, const at::Tensor& head) {
  const at::DeviceType device = hidden.device().type();
  if (at::autocast::is_autocast_enabled(device)) {
    const at::ScalarType type = at::autocast::get_autocast_dtype(device);
    if (type == at::kBFloat16) return type;
    throw std::invalid_argument(
        fmt::format("fused token_loss: autocast to bfloat16 is expected, {} "
                    "is set",
                    c10::toString(type)));
  }
  if (hidden.scalar_type() != head.scalar_type()) {
    throw std::invalid_argument(
        fmt::format("fused token_loss: hidden is {}, head {}: one type is "
                    "expected outside autocast",
                    c10::toString(hidden.scalar_type()),
                    c10::toString(head.scalar_type())));
  }
  return hidden.scalar_type();
}

at::Tensor token_loss(const at::Tensor& hidden, const at::Tensor& head,
                      const at::Tensor& targets) {
  RECORD_FUNCTION("dai::token_loss", c10::ArrayRef<const c10::IValue>{});
  check_token_loss(hidden, head, targets);
  check_pair("token_loss", hidden, head);
  check_pair("token_loss", hidden, targets);
  check_type("token_loss", head);
  const at::ScalarType type = product_type(hidden, head);
  const Wanted wanted{wants_gradient(hidden), wants_gradient(head)};
  check_targets(targets, head.size(0));
  if (!wanted.any()) {
    const at::AutoDispatchBelowAutograd plain;
    return fused_for(hidden)
        .token_loss(hidden, head, targets, type, wanted)
        .loss;
  }
  return ChunkedTokenLoss::apply(hidden, head, targets, type, wanted.first,
                                 wanted.second);
}

}  // namespace

const DecoderOps& fused_ops() {
  static const DecoderOps ops{"fused", fused_linear, rms_norm,
                              rope,    swiglu,       token_loss};
  return ops;
}

const DecoderOps& decoder_ops(const std::string& name) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    if (name == ops->name) return *ops;
  }
  throw UsageError(fmt::format("no rung {}; there are: naive, fused", name));
}

}  // namespace dai::intro
