// SPDX-License-Identifier: Apache-2.0
#pragma once

// Model FLOPs utilisation under every definition that is in use. They differ
// in what they count (embeddings, attention, the causal half of it), so one run
// has as many MFUs as there are definitions, and a number without its
// definition says nothing. Divided is by a measured peak, the best matrix
// product that this device reached in the same process.
//
//   const auto rows = utilization(config, tokens_per_s, batch, seq, peak);
//   fmt::print("{}", utilization_table(rows, peak));

#include <string>
#include <vector>

#include "ch01_intro/profile/analytic_flops.h"

namespace dai::intro {

struct UtilizationRow {
  FlopDefinition definition;
  double flops_per_token = 0;
  double flop_per_s = 0;
  double mfu = 0;  // 0 to 1
};

// Throws std::invalid_argument for a rate or a peak that is not positive.
std::vector<UtilizationRow> utilization(const DecoderConfig& config,
                                        std::int64_t batch, std::int64_t seq,
                                        const ExecutionChoices& choices,
                                        double tokens_per_s,
                                        double peak_flop_per_s);

std::string utilization_table(const std::vector<UtilizationRow>& rows);

}  // namespace dai::intro
