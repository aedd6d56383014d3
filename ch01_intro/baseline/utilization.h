// SPDX-License-Identifier: Apache-2.0
#pragma once

// Model FLOPs utilisation under every definition that is in use. They differ
// in what they count (embeddings, attention, the causal half of it), so one run
// has as many MFUs as there are definitions, and a number without its
// definition says nothing. Divided is by a measured peak, the best matrix
// product that this device reached in the same process.
//
//   const Utilization used = utilization(config, batch, seq, choices,
//                                        tokens_per_s, peak);
//   fmt::print("{}", used.to_string());

#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/profile/analytic_flops.h"
#include "ch01_intro/roofline/matmul_search.h"

namespace dai::intro {

struct UtilizationRow {
  FlopDefinition definition;
  double flops_per_token = 0;
  double flop_per_s = 0;
  double mfu = 0;  // 0 to 1
};

struct Utilization {
  MatmulPeak peak;  // what 100 % is
  std::vector<UtilizationRow> rows;

  // A row a definition, and what 100 % is.
  std::string to_string() const;
  // Under flat names that end in their unit.
  std::vector<std::pair<std::string, double>> metrics() const;
};

// Throws std::invalid_argument for a rate or a peak that is not positive.
Utilization utilization(const DecoderConfig& config, std::int64_t batch,
                        std::int64_t seq, const ExecutionChoices& choices,
                        double tokens_per_s, const MatmulPeak& peak);

}  // namespace dai::intro
