// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a rank tells the others of its model and data. Ranks of one
// data-parallel training have equal weights before every step, and different
// data in it.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace dai::ddp {

// Weights before a step, as a tree of hashes: the root is told at each check,
// the leaves (one a parameter) once a root is another one.
struct WeightsCheck {
  std::int64_t step = 0;
  std::uint64_t root = 0;
  std::vector<std::uint64_t> leaves;
};

struct StepData {
  std::int64_t step = 0;
  std::vector<std::uint64_t> fingerprints;  // of each microbatch
};

struct NanFound {
  std::int64_t step = 0;
  std::string where;  // "at::linear of gate.weight"
};

struct ModelFacts {
  std::vector<std::string> parameters;  // names; sent with leaves only
  std::vector<WeightsCheck> checks;     // the last ones, oldest first
  std::vector<StepData> data;           // likewise
  std::optional<NanFound> nan;
  std::int64_t loss_seen = -1;  // step of the last loss that was looked at

  const WeightsCheck* check_of(std::int64_t step) const;  // or null
};

nlohmann::ordered_json to_json(const ModelFacts& facts,
                               std::optional<std::int64_t> leaves_of);
// Throws nlohmann::json::exception.
ModelFacts model_facts_from_json(const nlohmann::ordered_json& json);

// The first step whose weights were checked by all and are not equal.
std::optional<std::int64_t> first_difference(
    const std::vector<const ModelFacts*>& ranks);

}  // namespace dai::ddp
