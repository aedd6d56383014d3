// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/model_facts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace dai::ddp {

const WeightsCheck* ModelFacts::check_of(std::int64_t step) const {
  const auto found = std::ranges::find(checks, step, &WeightsCheck::step);
  return found == checks.end() ? nullptr : &*found;
}

nlohmann::ordered_json to_json(const ModelFacts& facts,
                               std::optional<std::int64_t> leaves_of) {
  nlohmann::ordered_json json = {{"loss_seen", facts.loss_seen},
                                 {"checks", nlohmann::ordered_json::array()},
                                 {"data", nlohmann::ordered_json::array()}};
  for (const WeightsCheck& check : facts.checks) {
    json["checks"].push_back({check.step, check.root});
    if (leaves_of != check.step) continue;
    json["leaves"] = {{"step", check.step},
                      {"names", facts.parameters},
                      {"hashes", check.leaves}};
  }
  for (const StepData& data : facts.data) {
    json["data"].push_back({data.step, data.fingerprints});
  }
  if (facts.nan) json["nan"] = {facts.nan->step, facts.nan->where};
  return json;
}

ModelFacts model_facts_from_json(const nlohmann::ordered_json& json) {
  ModelFacts facts;
  json.at("loss_seen").get_to(facts.loss_seen);
  for (const auto& check : json.at("checks")) {
    facts.checks.push_back({.step = check.at(0).get<std::int64_t>(),
                            .root = check.at(1).get<std::uint64_t>(),
                            .leaves = {}});
  }
  for (const auto& data : json.at("data")) {
    facts.data.push_back({data.at(0).get<std::int64_t>(),
                          data.at(1).get<std::vector<std::uint64_t>>()});
  }
  if (json.contains("leaves")) {
    const auto& leaves = json["leaves"];
    leaves.at("names").get_to(facts.parameters);
    for (WeightsCheck& check : facts.checks) {
      if (check.step == leaves.at("step").get<std::int64_t>()) {
        leaves.at("hashes").get_to(check.leaves);
      }
    }
  }
  if (json.contains("nan")) {
    facts.nan = NanFound{json["nan"].at(0).get<std::int64_t>(),
                         json["nan"].at(1).get<std::string>()};
  }
  return facts;
}

std::optional<std::int64_t> first_difference(
    const std::vector<const ModelFacts*>& ranks) {
  for (const WeightsCheck& check : ranks[0]->checks) {
    bool all = true, equal = true;
    for (const ModelFacts* facts : ranks) {
      const WeightsCheck* const other = facts->check_of(check.step);
      all = all && other;
      equal = equal && (!other || other->root == check.root);
    }
    if (all && !equal) return check.step;
  }
  return std::nullopt;
}

}  // namespace dai::ddp
