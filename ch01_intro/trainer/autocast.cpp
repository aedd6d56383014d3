// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/autocast.h"

#include <ATen/autocast_mode.h>
#include <fmt/format.h>

#include "common/errors.h"

namespace dai::intro {

Precision precision_from_string(const std::string& name) {
  if (name == "fp32") return Precision::kFp32;
  if (name == "bf16") return Precision::kBf16;
  if (name == "fp16") return Precision::kFp16;
  throw UsageError(
      fmt::format("precision {}: fp32, bf16 or fp16 is expected", name));
}

const char* to_string(Precision precision) {
  switch (precision) {
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp16:
      return "fp16";
    default:
      return "fp32";
  }
}

Autocast::Autocast(Precision precision, at::Device device)
    : device_type_(device.type()),
      was_enabled_(at::autocast::is_autocast_enabled(device_type_)),
      old_dtype_(at::autocast::get_autocast_dtype(device_type_)) {
  at::autocast::increment_nesting();
  const bool half = precision != Precision::kFp32;
  if (half) {
    at::autocast::set_autocast_dtype(device_type_, precision == Precision::kBf16
                                                       ? at::kBFloat16
                                                       : at::kHalf);
  }
  at::autocast::set_autocast_enabled(device_type_, half);
}

Autocast::~Autocast() {
  at::autocast::set_autocast_enabled(device_type_, was_enabled_);
  at::autocast::set_autocast_dtype(device_type_, old_dtype_);
  // Cached casts hold memory and would be stale after the optimizer's step.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

}  // namespace dai::intro
