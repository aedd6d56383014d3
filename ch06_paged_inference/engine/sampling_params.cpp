// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/sampling_params.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/errors.h"

namespace dai::paged {

void SamplingParams::check(std::int64_t vocab) const {
  const auto want = [](bool good, const char* field, const char* accepted) {
    if (!good) throw UsageError(fmt::format("{}: {}", field, accepted));
  };
  const auto known = [&](std::int32_t id) { return id >= 0 && id < vocab; };
  want(temperature >= 0 && std::isfinite(temperature), "temperature",
       "a number from 0 on");
  want(top_k >= -1, "top_k", "0 or -1 (all) or more");
  want(top_p > 0 && top_p <= 1, "top_p", "in (0, 1]");
  want(min_p >= 0 && min_p <= 1, "min_p", "in [0, 1]");
  want(repetition_penalty >= 1e-3 && repetition_penalty <= 1e3,
       "repetition_penalty", "in [0.001, 1000]");
  want(std::abs(presence_penalty) <= 2, "presence_penalty", "in [-2, 2]");
  want(std::abs(frequency_penalty) <= 2, "frequency_penalty", "in [-2, 2]");
  want(logprobs >= -1 && logprobs <= vocab, "logprobs", "0 to the vocabulary");
  want(max_tokens >= 1, "max_tokens", "at least 1");
  want(min_tokens >= 0 && min_tokens <= max_tokens, "min_tokens",
       "from 0 to max_tokens");
  want(n >= 1 && n <= 256, "n", "1 to 256");
  for (const auto& [id, bias] : logit_bias) {
    want(known(id) && std::abs(bias) <= 100, "logit_bias",
         "token ids, and numbers in [-100, 100]");
  }
  for (const std::int32_t id : stop_ids) {
    want(known(id), "stop_token_ids", "ids of the vocabulary");
  }
  // Each is looked for at every token.
  want(stop.size() <= 16 && stop_ids.size() <= 64 && logit_bias.size() <= 1024,
       "stop, stop_token_ids, logit_bias", "at most 16, 64 and 1024");
  for (const std::string& text : stop) {
    const bool begins_character =
        !text.empty() && (static_cast<unsigned char>(text[0]) & 0xc0) != 0x80;
    want(begins_character && text.size() <= 1024, "stop",
         "UTF-8 strings of 1 to 1024 bytes");
  }
  want(std::ranges::count(processors, nullptr) == 0, "processors",
       "none that is null");
}

}  // namespace dai::paged
