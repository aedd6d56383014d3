// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, inference and serving of one model, measured on this device and
// placed under its roofline. The verdict is about the placements: no work is
// faster than its roof, training is held by arithmetic, one sequence's decode
// by memory, and a batch of sequences buys throughput with latency.
//
//   const ThreeWorkloads all = measure_three_workloads(options, roofline,
//   device); fmt::print("{}", all.to_table()); judge(all).faster_than_roof;

#include <c10/core/Device.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/roofline/roofline.h"
#include "ch01_intro/workloads/workload.h"

namespace dai::intro {

struct ThreeWorkloadsOptions {
  DecoderConfig config;
  std::uint64_t seed = 1234;
  const DecoderOps* ops = &fused_ops();
  std::int64_t batch = 8;  // of training
  std::int64_t seq = 128;  // also prompt and context
  std::vector<std::int64_t> serve = {1, 2, 4, 8, 16, 32};  // sequences at once
  std::int64_t repetitions = 5;    // of each measurement
  std::int64_t decode_steps = 16;  // tokens of a decode measurement
};

struct WorkloadRow {
  Workload work;
  double seconds = 0;  // median of one pass: a step, a prompt, a token
  Placement place;

  double tokens_per_s() const {
    return static_cast<double>(work.tokens) / seconds;
  }
};

struct ThreeWorkloads {
  std::vector<WorkloadRow> rows;  // training, prefill, decode by batch

  std::string to_table() const;
  nlohmann::ordered_json to_json() const;
  // Of what to_json() wrote. Throws UsageError for anything else.
  static ThreeWorkloads from_json(const nlohmann::json& json);
};

ThreeWorkloads measure_three_workloads(const ThreeWorkloadsOptions& options,
                                       const Roofline& roofline,
                                       at::Device device);

// Counts of what must not be; 0 each is a pass.
struct WorkloadVerdict {
  std::int64_t faster_than_roof = 0;  // by more than a tenth
  std::int64_t misplaced = 0;  // training not bound by compute, or the decode
                               // of one sequence not by memory
  std::int64_t out_of_order = 0;   // intensities: training > prefill > decode,
                                   // and growing with decode's batch
  std::int64_t batching_lost = 0;  // decode's largest batch gives fewer than
                                   // twice the tokens/s of one sequence
};
WorkloadVerdict judge(const ThreeWorkloads& all);

}  // namespace dai::intro
