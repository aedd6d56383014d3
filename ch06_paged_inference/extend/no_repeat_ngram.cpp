// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/extend/no_repeat_ngram.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace dai::paged {

NoRepeatNgram::NoRepeatNgram(std::int64_t n) : n_(n) {
  if (n < 1) throw std::invalid_argument("n-grams have at least a token");
}

void NoRepeatNgram::process(const Sequence& sequence, std::span<float> logits) {
  const std::span<const std::int32_t> answer =
      std::span(sequence.tokens)
          .subspan(static_cast<std::size_t>(sequence.prompt_tokens()));
  const auto before = static_cast<std::size_t>(n_ - 1);
  if (answer.size() < before) return;
  // Whatever has followed the last n - 1 tokens may not follow them again.
  const auto last = answer.last(before);
  for (std::size_t at = 0; at + before < answer.size(); ++at) {
    if (std::equal(last.begin(), last.end(), answer.begin() + at)) {
      logits[static_cast<std::size_t>(answer[at + before])] =
          -std::numeric_limits<float>::infinity();
    }
  }
}

}  // namespace dai::paged
