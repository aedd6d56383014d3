// SPDX-License-Identifier: Apache-2.0

// Which kind of work an operator is, from its name. Names of PyTorch 2.11's
// operators and autograd nodes, and of the decoder's own functions.

#include <array>
#include <string>
#include <utility>

#include "ch01_intro/profile/operator_profile.h"

namespace dai::intro {
namespace {

using Group = OperatorGroup;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool one_of(std::string_view name, std::string_view list) {
  return has(std::string(list), " " + std::string(name) + " ");
}

// Of "aten::..." without the prefix and the in-place underscore.
Group group_of_aten(std::string_view name) {
  if (has(name, "dot_product") || has(name, "flash_attention") ||
      has(name, "efficient_attention")) {
    return Group::kAttention;
  }
  if (has(name, "adam") || has(name, "sgd")) return Group::kOptimizer;
  if (has(name, "_norm") || one_of(name, " mean rsqrt var var_mean ")) {
    return Group::kNorm;
  }
  if (has(name, "softmax") || has(name, "nll_loss") ||
      has(name, "cross_entropy") || has(name, "_loss")) {
    return Group::kLoss;
  }
  if (has(name, "embedding")) return Group::kEmbedding;
  if (one_of(name,
             " mm bmm addmm baddbmm addbmm mv addmv dot vdot _int_mm _scaled_mm"
             " _addmm_activation mkldnn_linear mkldnn_convolution _convolution"
             " convolution_backward thnn_conv2d cudnn_convolution ")) {
    return Group::kMatmul;
  }
  if (one_of(name,
             " copy copy_ fill fill_ zero zero_ empty empty_like empty_strided"
             " new_empty new_zeros new_ones zeros zeros_like ones ones_like"
             " full full_like scalar_tensor cat stack clone contiguous to"
             " _to_copy resize resize_ set_ lift_fresh index_put index_put_"
             " slice_backward select_backward repeat repeat_interleave"
             " _local_scalar_dense item arange triu tril ")) {
    return Group::kCopy;
  }
  if (one_of(name,
             " t transpose permute view _unsafe_view reshape _reshape_alias"
             " reshape_as view_as as_strided expand expand_as squeeze squeeze_"
             " unsqueeze unsqueeze_ narrow slice select split chunk unbind"
             " unflatten flatten detach detach_ alias linear matmul einsum"
             " conv1d conv2d conv3d convolution result_type size resolve_conj"
             " requires_grad_ ")) {
    return Group::kDispatch;
  }
  if (one_of(name,
             " add add_ sub sub_ rsub mul mul_ div div_ neg neg_ pow pow_"
             " square sqrt exp log sin cos tanh tanh_backward sigmoid"
             " sigmoid_backward silu silu_ silu_backward gelu gelu_backward"
             " relu relu_ threshold_backward where masked_fill masked_fill_"
             " sum abs max min amax lt le gt ge eq ne logical_and logical_or"
             " bitwise_and all any clamp clamp_ addcmul addcmul_ addcdiv"
             " addcdiv_ reciprocal erf dropout native_dropout ")) {
    return Group::kPointwise;
  }
  return Group::kOther;
}

}  // namespace

const char* to_string(OperatorGroup group) {
  constexpr std::array<const char*, kOperatorGroups> kNames = {
      "matrix products",  "attention",        "norms and means",
      "loss and softmax", "pointwise",        "copies and fills",
      "embedding",        "dispatch, views",  "optimizer",
      "other operators",  "between operators"};
  return kNames.at(static_cast<std::size_t>(group));
}

OperatorGroup group_of(std::string_view name) {
  constexpr std::string_view kAten = "aten::";
  if (name.starts_with(kAten)) {
    return group_of_aten(name.substr(kAten.size()));
  }
  if (name == "mkldnn::_linear_pointwise") return Group::kMatmul;
  // The decoder's fused functions and their nodes; ours compute themselves.
  const std::pair<std::string_view, Group> own[] = {
      {"rms_norm", Group::kNorm},    {"RmsNorm", Group::kNorm},
      {"token_loss", Group::kLoss},  {"TokenLoss", Group::kLoss},
      {"rope", Group::kPointwise},   {"Rope", Group::kPointwise},
      {"swiglu", Group::kPointwise}, {"SwiGlu", Group::kPointwise}};
  if (has(name, "dai::") && !has(name, "evaluate_function")) {
    for (const auto& [part, group] : own) {
      if (has(name, part)) return group;
    }
  }
  if (name == "detach" || name == "detach_") return Group::kDispatch;
  // A node's work is in the operators that it calls.
  if (has(name, "autograd::") || has(name, "Backward")) return Group::kDispatch;
  return Group::kOther;
}

}  // namespace dai::intro
