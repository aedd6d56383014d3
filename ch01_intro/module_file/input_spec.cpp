// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/module_file/input_spec.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

#include "ch01_intro/counter_random.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::pair<std::string_view, at::ScalarType> kDtypes[] = {
    {"float32", at::kFloat},  {"float16", at::kHalf},
    {"float64", at::kDouble}, {"bfloat16", at::kBFloat16},
    {"int64", at::kLong},     {"int32", at::kInt},
    {"bool", at::kBool}};

[[noreturn]] void refuse(std::string_view spec, const std::string& why) {
  throw UsageError(fmt::format(
      "--input-shape {}: {}; sizes, type and number of values are expected, "
      "such as 8x128:int64:50257 or 8x16:float32",
      spec, why));
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::int64_t positive(std::string_view spec, std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 1) {
    refuse(spec, fmt::format("'{}' is no positive number", text));
  }
  return value;
}

InputSpec parse_one(std::string_view text) {
  InputSpec spec;
  const std::vector<std::string_view> parts = split(text, ':');
  if (parts.size() > 3) refuse(text, "too many colons");
  std::int64_t elements = 1;
  for (const std::string_view size : split(parts[0], 'x')) {
    const std::int64_t value = positive(text, size);
    if (value > std::numeric_limits<std::int32_t>::max() / elements) {
      refuse(text, "more than 2^31 elements");
    }
    elements *= value;
    spec.shape.push_back(value);
  }
  if (parts.size() > 1) {
    bool known = false;
    for (const auto& [name, dtype] : kDtypes) {
      if (name != parts[1]) continue;
      spec.dtype = dtype;
      known = true;
    }
    if (!known) refuse(text, fmt::format("no type '{}'", parts[1]));
  }
  if (parts.size() > 2) {
    if (!at::isIntegralType(spec.dtype, /*includeBool=*/false)) {
      refuse(text, "a number of values is for int64 and int32");
    }
    spec.below = positive(text, parts[2]);
  }
  return spec;
}

}  // namespace

std::vector<InputSpec> parse_input_shapes(const std::string& text) {
  std::vector<InputSpec> specs;
  for (const std::string_view part : split(text, ',')) {
    specs.push_back(parse_one(part));
  }
  return specs;
}

std::vector<at::Tensor> make_inputs(const std::vector<InputSpec>& specs,
                                    std::uint64_t seed, at::Device device) {
  std::vector<at::Tensor> inputs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const InputSpec& spec = specs[i];
    const std::uint64_t key =
        stream_key(seed, fmt::format("module input {}", i));
    const bool is_float = at::isFloatingType(spec.dtype);
    // In the widest type of its kind, then as asked.
    at::Tensor wide = at::empty(spec.shape, is_float ? at::kFloat : at::kLong);
    for (std::int64_t k = 0; k < wide.numel(); ++k) {
      const auto counter = static_cast<std::uint64_t>(k);
      if (is_float) {
        wide.data_ptr<float>()[k] = 2 * uniform01(key, counter) - 1;
      } else {
        wide.data_ptr<std::int64_t>()[k] =
            static_cast<std::int64_t>(mix64(key ^ mix64(counter)) %
                                      static_cast<std::uint64_t>(spec.below));
      }
    }
    inputs.push_back(wide.to(device, spec.dtype));
  }
  return inputs;
}

}  // namespace dai::intro
