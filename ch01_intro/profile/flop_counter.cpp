// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/flop_counter.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

namespace dai::intro {
namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;
using Rule = std::int64_t (*)(Inputs);

at::IntArrayRef sizes(const c10::IValue& value) {
  return value.toTensor().sizes();
}

// [.., m, k] x [.., k, n], with everything before m in the first factor.
std::int64_t product(const c10::IValue& a, const c10::IValue& b) {
  return 2 * a.toTensor().numel() * sizes(b).back();
}

std::int64_t mm(Inputs in) {
  return product(in[0], in[1]);
}
std::int64_t addmm(Inputs in) {
  return product(in[1], in[2]);
}
std::int64_t mv(Inputs in) {
  return 2 * in[0].toTensor().numel();
}
std::int64_t addmv(Inputs in) {
  return 2 * in[1].toTensor().numel();
}

// [.., k] x [n, k] transposed: oneDNN's, where weights lie as nn.Linear's do.
std::int64_t linear(Inputs in) {
  return 2 * in[0].toTensor().numel() * sizes(in[1]).front();
}

// b h s t, and the widths of keys and values. query: [b, h, s, d], key:
// [b, h_kv, t, d], value: [b, h_kv, t, d_v].
struct Attention {
  std::int64_t pairs, d, d_v;
  Attention(const c10::IValue& query, const c10::IValue& key,
            const c10::IValue& value) {
    const auto q = sizes(query);
    pairs = q[0] * q[1] * q[2] * sizes(key)[2];
    d = q[3];
    d_v = sizes(value)[3];
  }
};

std::int64_t attention(Inputs in) {
  const Attention a(in[0], in[1], in[2]);
  return 2 * a.pairs * (a.d + a.d_v);
}
std::int64_t attention_backward(Inputs in) {
  const Attention a(in[1], in[2], in[3]);  // behind the output's gradient
  return 2 * a.pairs * (3 * a.d + 2 * a.d_v);
}

std::int64_t numel_from(at::IntArrayRef shape, std::size_t first) {
  std::int64_t count = 1;
  for (std::size_t i = first; i < shape.size(); ++i) count *= shape[i];
  return count;
}

// Each output element takes one multiply-add per weight of its channel; in a
// transposed one it is the input that is spread out.
std::int64_t convolution(Inputs in) {
  const auto input = sizes(in[0]), weight = sizes(in[1]);
  if (in[6].toBool()) {  // transposed: weight [c_in, c_out / groups, kernel...]
    return 2 * in[0].toTensor().numel() * numel_from(weight, 1);
  }
  // One number stands for all dimensions.
  const auto number = [&](int argument, std::size_t dimension) {
    const auto numbers = in[argument].toIntVector();
    return numbers[std::min(dimension, numbers.size() - 1)];
  };
  std::int64_t places = input[0] * weight[0];
  for (std::size_t i = 0; i + 2 < input.size(); ++i) {
    const std::int64_t stride = number(3, i), padding = number(4, i),
                       dilation = number(5, i);
    const std::int64_t reach = dilation * (weight[i + 2] - 1) + 1;
    places *= (input[i + 2] + 2 * padding - reach) / stride + 1;
  }
  return 2 * places * numel_from(weight, 1);
}

// (grad_output, input, weight, bias_sizes, stride, padding, dilation,
// transposed, output_padding, groups, output_mask)
std::int64_t convolution_backward(Inputs in) {
  const bool transposed = in[7].toBool();
  const std::int64_t once = 2 * in[transposed ? 1 : 0].toTensor().numel() *
                            numel_from(sizes(in[2]), 1);
  const auto mask = in[10].toBoolList();
  return once * (static_cast<int>(mask[0]) + static_cast<int>(mask[1]));
}

const std::unordered_map<std::string_view, Rule>& rules() {
  static const std::unordered_map<std::string_view, Rule> kRules = {
      {"aten::mm", mm},
      {"aten::bmm", mm},
      {"aten::addmm", addmm},
      {"aten::baddbmm", addmm},
      {"aten::mv", mv},
      {"aten::dot", mv},
      {"aten::addmv", addmv},
      {"aten::_addmm_activation", addmm},
      {"mkldnn::_linear_pointwise", linear},
      {"aten::convolution", convolution},
      {"aten::convolution_backward", convolution_backward},
      {"aten::_scaled_dot_product_flash_attention_for_cpu", attention},
      {"aten::_scaled_dot_product_flash_attention", attention},
      {"aten::_scaled_dot_product_efficient_attention", attention},
      {"aten::_scaled_dot_product_cudnn_attention", attention},
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward",
       attention_backward},
      {"aten::_scaled_dot_product_flash_attention_backward",
       attention_backward},
      {"aten::_scaled_dot_product_efficient_attention_backward",
       attention_backward},
      {"aten::_scaled_dot_product_cudnn_attention_backward",
       attention_backward}};
  return kRules;
}

// Multiply matrices without going through an operator above. Names that only
// contain such a one (aten::matmul, aten::linear, the kernels inside
// aten::convolution) are counted there.
bool hides_products(std::string_view name) {
  static const std::set<std::string_view> kNames = {
      "aten::_int_mm",
      "aten::_scaled_mm",
      "aten::_grouped_mm",
      "aten::_scaled_grouped_mm",
      "aten::mkldnn_linear",
      "aten::mkldnn_linear_backward",
      "aten::lstm",
      "aten::gru",
      "aten::_sparse_mm",
      "aten::_cudnn_rnn",
      "aten::mkldnn_rnn_layer",
      "aten::_scaled_dot_product_fused_attention_overrideable",
      "aten::_trilinear",
      "aten::cdist"};
  return kNames.contains(name);
}

}  // namespace

struct FlopCounter::Tally {
  // PyTorch's callback is a plain function: it finds the tally here.
  static inline std::atomic<Tally*> active = nullptr;

  std::mutex mutex;
  std::map<std::string, OperatorFlops> operators;
  std::int64_t attention = 0;
  std::set<std::string> unknown;

  void see(const at::RecordFunction& call) {
    const std::string_view name = call.name();
    const auto rule = rules().find(name);
    if (rule == rules().end()) {
      if (hides_products(name)) {
        const std::lock_guard lock(mutex);
        unknown.insert(std::string(name));
      }
      return;
    }
    std::int64_t flops = 0;
    try {
      flops = rule->second(call.inputs());
    } catch (const std::exception&) {
      // A shape that the rule does not know, and PyTorch swallows exceptions
      // of callbacks: the name says that the count is too low.
      const std::lock_guard lock(mutex);
      unknown.insert(std::string(name));
      return;
    }
    const std::lock_guard lock(mutex);
    OperatorFlops& sum = operators[std::string(name)];
    ++sum.calls;
    sum.flops += flops;
    if (name.find("dot_product") != std::string_view::npos) attention += flops;
  }
};

FlopCounter::FlopCounter() : tally_(std::make_unique<Tally>()) {
  Tally* none = nullptr;
  if (!Tally::active.compare_exchange_strong(none, tally_.get())) {
    throw std::logic_error("FlopCounter: there is one already");
  }
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& call)
                                     -> std::unique_ptr<at::ObserverContext> {
        Tally::active.load()->see(call);
        return nullptr;
      })
          .needsInputs(true)
          .scopes({at::RecordScope::FUNCTION}));
}

FlopCounter::~FlopCounter() {
  at::removeCallback(handle_);
  Tally::active.store(nullptr);
}

std::int64_t FlopCounter::total() const {
  const std::lock_guard lock(tally_->mutex);
  std::int64_t total = 0;
  for (const auto& [name, sum] : tally_->operators) total += sum.flops;
  return total;
}

std::int64_t FlopCounter::attention() const {
  const std::lock_guard lock(tally_->mutex);
  return tally_->attention;
}

std::map<std::string, OperatorFlops> FlopCounter::by_operator() const {
  const std::lock_guard lock(tally_->mutex);
  return tally_->operators;
}

std::vector<std::string> FlopCounter::unknown() const {
  const std::lock_guard lock(tally_->mutex);
  return {tally_->unknown.begin(), tally_->unknown.end()};
}

void FlopCounter::reset() {
  const std::lock_guard lock(tally_->mutex);
  tally_->operators.clear();
  tally_->attention = 0;
  tally_->unknown.clear();
}

}  // namespace dai::intro
