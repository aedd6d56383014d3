// SPDX-License-Identifier: Apache-2.0
#pragma once

// A trace served by a real engine as the clock goes: what the virtual time of
// virtual_run.h is a forecast of.
//
//   ServedTrace run = serve_really(trace, engine, vocab_size, /*batch=*/0);
//
// With a batch at most so many of those that have arrived run, and the next
// ones have to wait until all of them are done; with 0 whoever arrives joins.
// Prompts are random tokens, so that nothing is shared, and answers as long as
// the trace says. One more request, before the clock starts, warms the model
// up. Throws std::runtime_error when a request ends with an error.

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/engine/engine.h"
#include "ch06_paged_inference/schedule/virtual_run.h"

namespace dai::paged {

// `step_ms` receives the time of each step.
ServedTrace serve_really(const std::vector<TimedRequest>& trace, Engine& engine,
                         std::int64_t vocab_size, std::int64_t batch,
                         std::vector<double>* step_ms = nullptr);

}  // namespace dai::paged
