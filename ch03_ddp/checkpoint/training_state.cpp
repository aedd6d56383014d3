// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/training_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>

#include "common/errors.h"
#include "common/strict_json.h"

namespace dai::ddp {

using intro::NamedParameter;

namespace {

constexpr const char* kLosses = "history.loss";
constexpr const char* kNorms = "history.gradient_norm";

at::Tensor as_tensor(const std::vector<double>& values) {
  at::Tensor tensor = at::empty({std::ssize(values)}, at::kDouble);
  std::copy(values.begin(), values.end(), tensor.data_ptr<double>());
  return tensor;
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

template <typename Number>
Number number_in(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  Number value{};
  if (found != metadata.end()) {
    const std::string& text = found->second;
    const auto [rest, error] =
        std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && rest == text.data() + text.size()) return value;
  }
  throw UsageError(fmt::format(
      "checkpoint: {} is {}", key,
      found == metadata.end() ? "missing" : printable(found->second)));
}

std::string described(const TensorEntry& entry) {
  return fmt::format("{} [{}]", dtype_name(entry.dtype),
                     fmt::join(entry.shape, ", "));
}

}  // namespace

Dtype checkpoint_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Dtype::F32;
    case at::kDouble:
      return Dtype::F64;
    case at::kHalf:
      return Dtype::F16;
    case at::kBFloat16:
      return Dtype::BF16;
    case at::kLong:
      return Dtype::I64;
    case at::kInt:
      return Dtype::I32;
    default:
      throw std::invalid_argument(
          fmt::format("no checkpoint holds {}", toString(type)));
  }
}

TrainingState::TrainingState(const std::vector<NamedParameter>& parameters,
                             intro::Trainer& trainer, GradScaler* scaler,
                             Metadata config)
    : parameters_(parameters),
      trainer_(trainer),
      scaler_(scaler),
      config_(std::move(config)) {}

void TrainingState::saw(const intro::StepResult& result) {
  losses_.push_back(result.loss);
  norms_.push_back(result.gradient_norm);
}

std::vector<NamedParameter> TrainingState::live() const {
  std::vector<NamedParameter> list;
  for (const auto& [name, tensor] : parameters_) {
    list.push_back({"model." + name, tensor.detach()});
  }
  for (const auto& state : trainer_.optimizer().states()) {
    list.push_back({"adamw.m." + state.name, state.m});
    list.push_back({"adamw.v." + state.name, state.v});
    list.push_back({"adamw.step." + state.name, state.step});
  }
  return list;
}

std::vector<NamedParameter> TrainingState::tensors() const {
  std::vector<NamedParameter> list = live();
  list.push_back({kLosses, as_tensor(losses_)});
  list.push_back({kNorms, as_tensor(norms_)});
  return list;
}

Metadata TrainingState::metadata() const {
  Metadata metadata{{"steps", fmt::format("{}", steps())}};
  for (const auto& [key, value] : config_) metadata["config." + key] = value;
  if (scaler_ != nullptr) {
    const GradScaler::State state = scaler_->state();
    metadata["scaler.scale"] = fmt::format("{}", state.scale);
    metadata["scaler.growth_tracker"] = fmt::format("{}", state.growth_tracker);
  }
  return metadata;
}

void TrainingState::check_fits(const CheckpointManifest& manifest) const {
  for (const auto& [key, value] : config_) {
    const auto found = manifest.metadata.find("config." + key);
    if (found == manifest.metadata.end() || found->second != value) {
      throw UsageError(fmt::format(
          "the checkpoint was made with {}={}, this run has {}", key,
          found == manifest.metadata.end() ? "nothing"
                                           : printable(found->second),
          value));
    }
  }
  std::set<std::string> expected{kLosses, kNorms};
  for (const auto& [name, tensor] : live()) {
    expected.insert(name);
    const TensorEntry mine{
        checkpoint_dtype(tensor.scalar_type()), tensor.sizes().vec(), {}};
    const auto found = manifest.tensors.find(name);
    if (found == manifest.tensors.end()) {
      throw UsageError(fmt::format("the checkpoint has no tensor {}", name));
    }
    if (found->second.dtype != mine.dtype ||
        found->second.shape != mine.shape) {
      throw UsageError(fmt::format("tensor {} is {} in the checkpoint, {} here",
                                   name, described(found->second),
                                   described(mine)));
    }
  }
  const auto steps = number_in<std::int64_t>(manifest.metadata, "steps");
  for (const char* const name : {kLosses, kNorms}) {
    const auto found = manifest.tensors.find(name);
    if (found == manifest.tensors.end() || found->second.dtype != Dtype::F64 ||
        found->second.shape != Shape{steps}) {
      throw UsageError(fmt::format(
          "the checkpoint of {} steps has not as many numbers in {}", steps,
          name));
    }
  }
  for (const auto& [name, entry] : manifest.tensors) {
    if (!expected.contains(name)) {
      throw UsageError(
          fmt::format("the checkpoint has a tensor {} that this model has not",
                      printable(name)));
    }
  }
}

void TrainingState::restore(Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  check_fits(manifest);
  checkpoint.verify();
  GradScaler::State scaler;
  if (scaler_ != nullptr) {
    scaler.scale = number_in<double>(manifest.metadata, "scaler.scale");
    scaler.growth_tracker =
        number_in<std::int64_t>(manifest.metadata, "scaler.growth_tracker");
    scaler_->load(scaler);
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : live()) {
    const at::Tensor read =
        at::empty(tensor.sizes(), at::TensorOptions(tensor.scalar_type()));
    checkpoint.read(name, 0, bytes_of(read));
    tensor.copy_(read);
  }
  const auto steps = number_in<std::int64_t>(manifest.metadata, "steps");
  for (auto [name, values] :
       {std::pair{kLosses, &losses_}, std::pair{kNorms, &norms_}}) {
    values->resize(steps);
    checkpoint.read(name, 0, std::as_writable_bytes(std::span(*values)));
  }
  trainer_.resume(losses_, norms_);
}

}  // namespace dai::ddp
