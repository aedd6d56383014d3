// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a step of inference has to do, counted: operations, and bytes that it
// cannot do without. Weights are read once a step, however many tokens it has;
// keys and values once for every row that looks back at them. That is all of
// the difference between prefill and decode.
//
//   Work work = step_work(config, {.rows = 8, .position = 511}, 4, 4);
//   std::int64_t batch = compute_bound_batch(config, 511, ridge, 4, 4);

#include <cstdint>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/roofline/roofline.h"
#include "ch06_paged_inference/schedule/step_cost.h"

namespace dai::paged {

// Weight and KV bytes are of one value: 4 for float32.
intro::Work step_work(const intro::DecoderConfig& config,
                      const StepShape& shape, double weight_bytes,
                      double kv_bytes);

// The smallest batch whose decode step has `ridge` operations for each byte; 0
// where none has, since keys and values grow with the batch as well.
std::int64_t compute_bound_batch(const intro::DecoderConfig& config,
                                 std::int64_t context, double ridge,
                                 double weight_bytes, double kv_bytes);

// As measured on one machine and kept (recorded_roofs.json): one peak, one
// level of memory.
intro::Roofline recorded_roofline();

// Of one token, all layers, keys and values.
double kv_bytes_per_token(const intro::DecoderConfig& config, double kv_bytes);

}  // namespace dai::paged
