// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/utilization.h"

#include <fmt/format.h>

#include <stdexcept>

#include "common/report.h"

namespace dai::intro {

std::vector<UtilizationRow> utilization(const DecoderConfig& config,
                                        std::int64_t batch, std::int64_t seq,
                                        const ExecutionChoices& choices,
                                        double tokens_per_s,
                                        double peak_flop_per_s) {
  if (!(tokens_per_s > 0) || !(peak_flop_per_s > 0)) {
    throw std::invalid_argument(
        fmt::format("{} tokens/s, {} FLOP/s: positive rates are expected",
                    tokens_per_s, peak_flop_per_s));
  }
  std::vector<UtilizationRow> rows;
  for (const FlopDefinition& definition :
       flop_definitions(config, batch, seq, choices)) {
    UtilizationRow row{.definition = definition};
    row.flops_per_token = definition.flops / static_cast<double>(batch * seq);
    row.flop_per_s = row.flops_per_token * tokens_per_s;
    row.mfu = row.flop_per_s / peak_flop_per_s;
    rows.push_back(row);
  }
  return rows;
}

std::string utilization_table(const std::vector<UtilizationRow>& rows) {
  Table table({"MFU by", "a token", "MFLOP/token", "GFLOP/s", "MFU"});
  for (const UtilizationRow& row : rows) {
    table.add_row({row.definition.name, row.definition.formula,
                   fmt::format("{:.3f}", row.flops_per_token / 1e6),
                   fmt::format("{:.1f}", row.flop_per_s / 1e9),
                   fmt::format("{:.1f} %", 100 * row.mfu)});
  }
  return table.to_string();
}

}  // namespace dai::intro
