// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_train_baseline, and what its words stand for.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/baseline/baseline.h"
#include "ch01_intro/baseline/forward_latency.h"
#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/memory_plan/memory_plan.h"
#include "ch01_intro/profile/analytic_flops.h"
#include "ch01_intro/roofline/matmul_peak.h"
#include "ch01_intro/tokenizer/text_corpus.h"
#include "common/app.h"

namespace dai::intro {

struct BaselineAppOptions {
  std::string model = "bench-9m";
  std::string rung = "fused";
  std::string precision = "fp32";
  std::string device = "auto";
  std::string text;
  std::int64_t text_bytes = 0;
  std::int64_t window = 128;
  std::int64_t latency_samples = 30;
  double peak_seconds = 2;
  bool paced = false;
  std::string windows_out;
  BaselineOptions baseline;

  void declare(dai::OptionSet& set);
  // Also takes --precision over into `baseline`. Throws UsageError for what
  // no single option shows: an unknown model, more than one rank.
  void check(const LaunchContext& launch);

  DecoderConfig config() const { return decoder_config(model); }
  const DecoderOps& ops() const;
  ExecutionChoices execution() const;
  PlanSetup memory() const;  // of a microbatch
  TextCorpusOptions corpus(std::uint64_t seed) const;
  std::vector<std::int64_t> batches() const;  // 1, 2, 4, ... samples
  LatencyOptions latency() const;
  MatmulPeakOptions peak(at::Device device) const;
  std::string to_string() const;
};

}  // namespace dai::intro
