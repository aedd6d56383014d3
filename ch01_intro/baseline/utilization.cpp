// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/utilization.h"

#include <fmt/format.h>

#include <stdexcept>

#include "common/report.h"

namespace dai::intro {

Utilization utilization(const DecoderConfig& config, std::int64_t batch,
                        std::int64_t seq, const ExecutionChoices& choices,
                        double tokens_per_s, const MatmulPeak& peak) {
  const double peak_flop_per_s = peak.best.flop_per_s();
  if (!(tokens_per_s > 0) || !(peak_flop_per_s > 0)) {
    throw std::invalid_argument(
        fmt::format("{} tokens/s, {} FLOP/s: positive rates are expected",
                    tokens_per_s, peak_flop_per_s));
  }
  Utilization result{.peak = peak, .rows = {}};
  for (const FlopDefinition& definition :
       flop_definitions(config, batch, seq, choices)) {
    UtilizationRow row{.definition = definition};
    row.flops_per_token = definition.flops / static_cast<double>(batch * seq);
    row.flop_per_s = row.flops_per_token * tokens_per_s;
    row.mfu = row.flop_per_s / peak_flop_per_s;
    result.rows.push_back(row);
  }
  return result;
}

std::string Utilization::to_string() const {
  Table table({"MFU by", "a token", "MFLOP/token", "GFLOP/s", "MFU"});
  for (const UtilizationRow& row : rows) {
    table.add_row({row.definition.name, row.definition.formula,
                   fmt::format("{:.3f}", row.flops_per_token / 1e6),
                   fmt::format("{:.1f}", row.flop_per_s / 1e9),
                   fmt::format("{:.1f} %", 100 * row.mfu)});
  }
  return fmt::format(
      "{}100 % is {:.1f} GFLOP/s: {}, the best of {} matrix products tried\n",
      table.to_string(), peak.best.flop_per_s() / 1e9,
      peak.best.shape.to_string(), peak.tried.size());
}

std::vector<std::pair<std::string, double>> Utilization::metrics() const {
  std::vector<std::pair<std::string, double>> list = {
      {"achievable_peak_gflop_per_s", peak.best.flop_per_s() / 1e9}};
  for (const UtilizationRow& row : rows) {
    list.emplace_back("mfu_" + row.definition.name + "_ratio", row.mfu);
  }
  return list;
}

}  // namespace dai::intro
