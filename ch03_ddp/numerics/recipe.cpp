// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/numerics/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/errors.h"

namespace dai::ddp {

std::int64_t bytes_a_parameter(const Recipe& recipe) {
  const std::int64_t weight = recipe.weights == at::kFloat ? 4 : 2;
  const std::int64_t updated = recipe.masters ? 4 : weight;
  return weight + weight + (recipe.masters ? 4 + 4 : 0) + 2 * updated;
}

const std::vector<Recipe>& recipes() {
  using intro::Precision;
  static const std::vector<Recipe> all{
      {.name = "fp32"},
      {.name = "fp32-nudged", .nudged = true},
      {.name = "bf16", .autocast = Precision::kBf16},
      {.name = "fp16", .autocast = Precision::kFp16, .scaled = true},
      {.name = "fp16-unscaled", .autocast = Precision::kFp16},
      {.name = "bf16-weights", .weights = at::kBFloat16},
      {.name = "bf16-masters", .weights = at::kBFloat16, .masters = true},
      {.name = "fp16-masters",
       .weights = at::kHalf,
       .masters = true,
       .scaled = true}};
  return all;
}

const Recipe& recipe(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& one : recipes()) {
    if (one.name == name) return one;
    names.push_back(one.name);
  }
  throw UsageError(
      fmt::format("recipe {}: accepted are {}", name, fmt::join(names, ", ")));
}

}  // namespace dai::ddp
