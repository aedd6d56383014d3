// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/model_watch.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/isposinf.h>
#include <ATen/record_function.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "ch01_intro/counter_random.h"

namespace dai::ddp {
namespace {

using intro::mix64;

// What the callbacks of this thread see; PyTorch takes plain functions only.
struct Search {
  std::map<const c10::TensorImpl*, std::string> names;
  std::string parameter;  // used last
  std::string user;       // by this operator
  std::string found;
  int depth = 0;
};
thread_local Search* search = nullptr;

// Minus infinity is what attention masks are made of.
bool all_finite(const c10::IValue& value) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (!tensor.defined() || !tensor.is_floating_point()) return true;
    return !at::isnan(tensor).any().item<bool>() &&
           !at::isposinf(tensor).any().item<bool>();
  }
  if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) {
      if (!all_finite(tensor)) return false;
    }
  }
  return true;
}

// Operators that are made of others are looked at as a whole: depth 1. What we
// call ourselves to look is not seen.
std::unique_ptr<at::ObserverContext> entered(const at::RecordFunction& call) {
  if (!search || ++search->depth != 1 || !search->found.empty()) return nullptr;
  const at::RecordFunctionGuard blind(/*is_enabled=*/false);
  bool from_outside = false;
  for (const c10::IValue& input : call.inputs()) {
    const bool finite = all_finite(input);
    const auto found =
        input.isTensor() && input.toTensor().defined()
            ? search->names.find(input.toTensor().unsafeGetTensorImpl())
            : search->names.end();
    if (found == search->names.end()) {
      // No operator has returned it, or it would have been found there.
      from_outside = from_outside || !finite;
      continue;
    }
    search->parameter = found->second;
    search->user = call.name();
    if (!finite) {
      search->found = fmt::format("{} is not finite", found->second);
      return nullptr;
    }
  }
  if (from_outside) {
    search->found = fmt::format("an input of {} is not finite", call.name());
  }
  return nullptr;
}

void left(const at::RecordFunction& call, at::ObserverContext*) {
  if (!search || search->depth-- != 1 || !search->found.empty()) return;
  const at::RecordFunctionGuard blind(/*is_enabled=*/false);
  bool finite = true;
  for (const c10::IValue& output : call.outputs()) {
    finite = finite && all_finite(output);
  }
  if (finite) return;
  search->found = std::string(call.name());
  if (search->parameter.empty()) return;
  if (search->user == call.name()) {
    search->found += " of " + search->parameter;
  } else {
    search->found +=
        fmt::format(" after {} of {}", search->user, search->parameter);
  }
}

}  // namespace

std::uint64_t fingerprint(const at::Tensor& tensor) {
  const at::Tensor cpu = tensor.detach().cpu().contiguous();
  const auto* bytes = static_cast<const char*>(cpu.const_data_ptr());
  const std::size_t size = cpu.nbytes();
  constexpr std::uint64_t kPrime = 0x9e3779b97f4a7c15u;
  // Four chains at once: one would wait for its multiplications.
  std::array<std::uint64_t, 4> lanes{1, 2, 3, 4};
  std::size_t at = 0;
  for (; at + 32 <= size; at += 32) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), bytes + at, 32);
    for (int k = 0; k < 4; ++k) {
      lanes[k] = (lanes[k] ^ words[k]) * kPrime;
      lanes[k] ^= lanes[k] >> 29;
    }
  }
  std::uint64_t hash = mix64(size);
  for (const std::uint64_t lane : lanes) hash = mix64(hash ^ lane);
  for (; at < size; ++at) {
    hash = mix64(hash ^ static_cast<unsigned char>(bytes[at]));
  }
  return hash;
}

std::string first_not_finite(
    const std::vector<intro::NamedParameter>& parameters,
    const std::function<void()>& forward) {
  Search mine;
  for (const auto& [name, tensor] : parameters) {
    mine.names.emplace(tensor.unsafeGetTensorImpl(), name);
  }
  search = &mine;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(entered, left)
                                     .needsInputs(true)
                                     .needsOutputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
  const auto stop = [&] {
    at::removeCallback(handle);
    search = nullptr;
  };
  try {
    const at::NoGradGuard no_grad;
    forward();
  } catch (...) {
    stop();
    throw;
  }
  stop();
  return mine.found;
}

ModelWatch::ModelWatch(Watch& watch,
                       std::vector<intro::NamedParameter> parameters,
                       std::int64_t every)
    : watch_(watch), parameters_(std::move(parameters)), every_(every) {
  std::vector<std::string> names;
  for (const auto& parameter : parameters_) names.push_back(parameter.name);
  watch_.name_parameters(std::move(names));
}

void ModelWatch::begin_step(std::int64_t step) {
  if (step % every_ != 0) return;
  WeightsCheck check{
      .step = step, .root = mix64(parameters_.size()), .leaves = {}};
  for (const auto& parameter : parameters_) {
    check.leaves.push_back(fingerprint(parameter.tensor));
    check.root = mix64(check.root ^ check.leaves.back());
  }
  watch_.tell(std::move(check));
}

void ModelWatch::saw_data(std::int64_t step, std::uint64_t fingerprint) {
  watch_.tell_data(step, fingerprint);
}

void ModelWatch::saw_loss(std::int64_t step, const at::Tensor& loss,
                          const std::function<void()>& forward) {
  if (!found_ && !std::isfinite(loss.item<double>())) {
    found_ = true;
    std::string where = first_not_finite(parameters_, forward);
    if (where.empty()) where = "its forward, done again, is finite";
    watch_.tell(NanFound{step, std::move(where)});
  }
  watch_.tell_loss(step);
}

}  // namespace dai::ddp
