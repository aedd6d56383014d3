// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a client asks for, and the state of each answer to it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ch06_paged_inference/engine/block_table.h"
#include "ch06_paged_inference/engine/sampling_params.h"

namespace dai::paged {

enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };
const char* finish_name(FinishReason reason);  // "stop", as OpenAI says it

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0;
  std::vector<std::pair<std::int32_t, float>> best;  // falling
};

// What one step brought for one answer.
struct Output {
  std::int64_t request = 0;
  std::int64_t index = 0;  // of n
  std::string text = {};   // whole characters, nothing of a stop string
  std::vector<std::int32_t> tokens = {};
  std::vector<TokenLogprob> logprobs = {};
  FinishReason finish = FinishReason::kNone;
  std::string stopped_by = {};  // the stop string, if one did
  std::string error = {};       // with kError
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
};

struct Request {
  std::vector<std::int32_t> prompt = {};
  SamplingParams sampling = {};
  std::int64_t priority = 0;  // smaller is more urgent
  std::string cache_salt = {};
  std::function<void(const Output&)> on_output = {};  // in the engine's thread
};

enum class SequenceState {
  kForked,   // waits for its prompt to be computed by the first of the n
  kWaiting,  // holds no blocks: new, or preempted
  kRunning,
  kDraining,  // over, but a step in flight still writes its blocks
  kFinished,
};

// One answer on its way: what the scheduler schedules.
struct Sequence {
  std::int64_t id = 0;  // in the order of arrival
  std::int64_t request = 0, index = 0;
  std::shared_ptr<const Request> asked;
  SequenceState state = SequenceState::kWaiting;
  std::vector<std::int32_t> tokens;  // prompt and output
  std::int64_t limit = 0;            // it ends when it has so many
  // So many have keys and values, or will have when the steps planned so far
  // are done; of the last, `drawing`, those steps draw what they are.
  std::int64_t planned = 0;
  std::int64_t drawing = 0;
  std::int64_t in_flight = 0;  // planned steps with a row of it
  BlockTable table;
  std::int64_t cached_tokens = -1;  // of the prompt, at first admission
  std::int64_t preemptions = 0;
  FinishReason finish = FinishReason::kNone;

  std::int64_t prompt_tokens() const { return std::ssize(asked->prompt); }
  std::int64_t output_tokens() const {
    return std::ssize(tokens) - prompt_tokens();
  }
  std::int64_t length() const { return std::ssize(tokens) + drawing; }
};

}  // namespace dai::paged
