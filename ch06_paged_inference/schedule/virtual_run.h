// SPDX-License-Identifier: Apache-2.0
#pragma once

// A trace of requests served in virtual time: this chapter's scheduler decides,
// a StepCost says how long each step takes. Continuous batching as it is, and
// static batching beside it: a batch of those that have arrived runs until the
// last of it is done, and only then the next one begins.
//
//   const auto trace = arrivals_like_chats(100, /*per_second=*/2, 64, 32,
//   1234); ServedTrace run = serve_continuously(trace, {}, cost); ServedTrace
//   waits = serve_statically(trace, /*batch=*/8, {}, cost);
//
// Static batching is given what it can have: sequences that end leave at once,
// nothing is padded, and prompts are not cut up.

#include <cstdint>
#include <string>
#include <vector>

#include "ch06_paged_inference/engine/policy.h"
#include "ch06_paged_inference/engine/scheduler.h"
#include "ch06_paged_inference/schedule/step_cost.h"

namespace dai::paged {

struct TimedRequest {
  double arrival_ms = 0;
  std::int64_t prompt = 0, output = 0;  // tokens
  std::int64_t priority = 0;
};

// Poisson arrivals; log-normal lengths of these means (the others' spread is
// that of lengths_like_chats()), cut at four times the mean.
std::vector<TimedRequest> arrivals_like_chats(std::int64_t requests,
                                              double per_second,
                                              std::int64_t mean_prompt,
                                              std::int64_t mean_output,
                                              std::uint64_t seed);

// Lines "arrival_ms prompt_tokens answer_tokens". Throws UsageError that names
// the line: no numbers, none or too many tokens, an arrival before the last.
std::vector<TimedRequest> read_trace(const std::string& path);

struct ServedRequest {
  double arrival_ms = 0, first_ms = 0, end_ms = 0;  // on the run's clock
  std::int64_t output = 0;

  double ttft_ms() const { return first_ms - arrival_ms; }
  // Of the tokens behind the first; 0 where there are none.
  double tpot_ms() const {
    return output > 1 ? (end_ms - first_ms) / static_cast<double>(output - 1)
                      : 0;
  }
};

struct ServedTrace {
  std::vector<ServedRequest> requests;  // in the order of the trace
  double end_ms = 0;
  double longest_step_ms = 0;
  std::int64_t steps = 0, preemptions = 0;

  double tokens_per_s() const;
  double ttft_ms(double percent) const;
  double tpot_ms(double percent) const;  // of those with several tokens
};

struct VirtualServer {
  SchedulerOptions scheduler = {};
  std::int64_t blocks = 4096, block_size = 16;
  std::string policy = "fcfs";
};

ServedTrace serve_continuously(const std::vector<TimedRequest>& trace,
                               const VirtualServer& server,
                               const StepCost& cost);
ServedTrace serve_statically(const std::vector<TimedRequest>& trace,
                             std::int64_t batch, const VirtualServer& server,
                             const StepCost& cost);

}  // namespace dai::paged
