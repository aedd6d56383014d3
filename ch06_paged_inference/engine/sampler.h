// SPDX-License-Identifier: Apache-2.0
#pragma once

// Draws the next token of a sequence from its logits, in vLLM's order: log
// probabilities as the model gave them; processors, min_tokens, bias and
// penalties; temperature, min_p, top_k, top_p; the draw.
//
//   Sampler sampler(vocab_size, engine_seed);
//   TokenLogprob drawn = sampler.draw(sequence, logits, stop_ids);
//
// The random number is a function of the seed, the answer's index and the
// token's position (counter_random.h): a seeded request draws the same in any
// company, after any preemption. Equal logits: the smaller id is the likelier.
// Throws std::runtime_error for logits that are NaN or all minus infinity.

#include <cstdint>
#include <span>
#include <vector>

#include "ch06_paged_inference/engine/request.h"

namespace dai::paged {

class Sampler {
 public:
  Sampler(std::int64_t vocab_size, std::uint64_t seed)
      : seed_(seed), counts_(static_cast<std::size_t>(vocab_size)) {}

  // Of the sequence's next position. `ends` are the ids that end an answer,
  // which min_tokens forbids. Changes `logits` ([vocab]).
  TokenLogprob draw(const Sequence& sequence, std::span<float> logits,
                    std::span<const std::int32_t> ends);

 private:
  struct Candidate {
    float logit;
    std::int32_t token;
    bool operator<(const Candidate& other) const {  // likelier
      return logit != other.logit ? logit > other.logit : token < other.token;
    }
  };
  void penalize(const Sequence& sequence, std::span<float> logits);
  std::int32_t draw_among(const SamplingParams& params, double random,
                          std::span<const float> logits);
  void collect(std::span<const float> logits, float least);  // possible ones
  void keep_first(std::size_t n);                            // no others
  // The first `n` of candidates_ are the likeliest, in order.
  void sort_first(std::size_t n);

  std::uint64_t seed_;
  std::vector<std::int32_t> counts_;  // scratch, all 0 between calls
  std::vector<Candidate> candidates_;
};

}  // namespace dai::paged
