// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/scaling_breakdown.h"

#include <fmt/format.h>

#include <locale>
#include <sstream>

#include "common/report.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

// What the reader sees; to_string(StepPart) is the key in JSON.
constexpr const char* kMeaning[kStepParts] = {
    "data",      "forward",
    "backward",  "wait for the slowest rank",
    "wire",      "own additions and copies",
    "optimizer", "loop"};

}  // namespace

double ScalingBreakdown::efficiency() const {
  return total_ms(one_rank) / (ranks * total_ms(all_ranks));
}

std::string ScalingBreakdown::to_table() const {
  Table table({"part of a step (ms)", "1 rank",
               ranks == 1 ? std::string("1 rank, as a group")
                          : fmt::format("{} ranks", ranks),
               fmt::format("ideal (1 rank / {})", ranks), "lost"});
  const auto add_row = [&](const char* name, double one, double all) {
    table.add_row({name, fmt::format("{:.3f}", one), fmt::format("{:.3f}", all),
                   fmt::format("{:.3f}", one / ranks),
                   fmt::format("{:.3f}", all - one / ranks)});
  };
  for (int part = 0; part < kStepParts; ++part) {
    add_row(kMeaning[part], one_rank[part], all_ranks[part]);
  }
  add_row("whole step", total_ms(one_rank), total_ms(all_ranks));
  return table.to_string();
}

nlohmann::ordered_json ScalingBreakdown::to_json() const {
  nlohmann::ordered_json json;
  for (int part = 0; part < kStepParts; ++part) {
    const char* key = to_string(static_cast<StepPart>(part));
    json["one_rank"][key] = one_rank[part];
    json["all_ranks"][key] = all_ranks[part];
  }
  json["one_rank"]["step"] = total_ms(one_rank);
  json["all_ranks"]["step"] = total_ms(all_ranks);
  return json;
}

ScalingBreakdown break_down_scaling(const StepTimes& one_rank,
                                    const StepTimes& mine,
                                    ProcessGroup& group) {
  // Twice eight doubles as text, through the store: no device, no rounding.
  std::string text;
  for (const double ms : one_rank) text += fmt::format("{} ", ms);
  for (const double ms : mine) text += fmt::format("{} ", ms);
  ScalingBreakdown result{.ranks = group.size()};
  int rank = 0;
  for (const std::string& theirs : group.gather_strings(text)) {
    std::istringstream words(theirs);
    words.imbue(std::locale::classic());
    StepTimes one{}, all{};
    for (double& ms : one) words >> ms;
    for (double& ms : all) words >> ms;
    if (rank++ == 0) result.one_rank = one;
    for (int part = 0; part < kStepParts; ++part) {
      result.all_ranks[part] += all[part] / group.size();
    }
  }
  return result;
}

}  // namespace dai::intro
