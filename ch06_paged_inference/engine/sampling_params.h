// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the tokens of an answer are chosen, and when it ends: what a client may
// ask for, with its limits.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dai::paged {

class LogitsProcessor;

// The names and defaults of OpenAI's API and of vLLM's SamplingParams. Unlike
// there, logprobs -1 is none, and the text of a token in stop_ids is sent.
struct SamplingParams {
  double temperature = 1;         // 0: the most likely token
  std::int64_t top_k = 0;         // of the k most likely; 0: of all
  double top_p = 1;               // of the fewest whose probabilities reach p
  double min_p = 0;               // of those at least so likely as p * the best
  double repetition_penalty = 1;  // divides what occurred, prompt included
  double presence_penalty = 0;    // subtracted once from what was generated
  double frequency_penalty = 0;   // subtracted for each time
  std::optional<std::uint64_t> seed =
      {};  // none: the engine's, never equal twice
  std::vector<std::pair<std::int32_t, float>> logit_bias = {};
  std::int64_t logprobs = -1;  // the n best beside the drawn one; -1: none
  std::vector<std::string> stop = {};
  bool include_stop = false;  // in the text
  std::vector<std::int32_t> stop_ids = {};
  std::int64_t min_tokens = 0;
  std::int64_t max_tokens = 16;
  bool ignore_eos = false;
  std::int64_t n = 1;  // answers to one prompt
  std::vector<std::shared_ptr<LogitsProcessor>> processors = {};

  // Throws UsageError that names the field and what it accepts.
  void check(std::int64_t vocab_size) const;
};

}  // namespace dai::paged
