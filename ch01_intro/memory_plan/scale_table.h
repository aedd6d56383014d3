// SPDX-License-Identifier: Apache-2.0
#pragma once

// Why one device ends: the formulas of scale_plan.h for a list of decoders, as
// tables for people and as numbers for scripts/plot. Torch-free.
//
//   ScaleAssumptions assume{.seq = 8192, .device_gb = {24, 80}};
//   std::vector<ScaleRow> rows = scale_rows({"llama-8b"}, assume);
//   app.print(scale_tables(rows, assume));
//
// Errors: UsageError for a decoder or recipe that there is not, and for a
// number that makes no sense.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ch01_intro/memory_plan/scale_plan.h"

namespace dai::intro {

struct ScaleAssumptions {
  std::string recipe = "bf16-18";
  std::int64_t batch = 1;    // sequences of a microbatch, and of those served
  std::int64_t seq = 8192;   // tokens of each, cut to a decoder's positions
  double tokens = 15e12;     // to train on
  double mfu = 0.4;          // of the peak that training reaches
  double peak_tflops = 989;  // a second: an H100's dense bfloat16
  std::vector<double> device_gb = {8, 24, 80, 141};  // 1e9 bytes each

  void check() const;
};

struct ScaleRow {
  DecoderConfig config;
  std::int64_t seq = 0;
  StateBytes states;
  // Of a microbatch: nothing recomputed, attention, all of each layer.
  std::int64_t activations = 0, without_attention = 0, recomputed = 0;
  std::int64_t kv_token = 0, kv = 0;  // bfloat16: of a token, of the batch
  std::int64_t served_weights = 0;    // bfloat16
  double flops_per_token = 0, device_days = 0;

  std::int64_t train_bytes() const { return states.total() + recomputed; }
  std::int64_t serve_bytes() const { return served_weights + kv; }
};

std::vector<ScaleRow> scale_rows(const std::vector<std::string>& models,
                                 const ScaleAssumptions& assume);

// Bytes by category; devices by memory alone; KV cache; device-days.
std::string scale_tables(const std::vector<ScaleRow>& rows,
                         const ScaleAssumptions& assume);

// {"bytes": {model: {category: bytes}}, "devices": {"80 GB": bytes}}
nlohmann::ordered_json scale_json(const std::vector<ScaleRow>& rows,
                                  const ScaleAssumptions& assume);

// "8,24,80,141"; UsageError quotes what is no positive number.
std::vector<double> parse_device_gb(const std::string& text);

}  // namespace dai::intro
