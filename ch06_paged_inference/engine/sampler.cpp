// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "ch06_paged_inference/engine/logits_processor.h"

namespace dai::paged {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float largest(std::span<const float> logits) {
  float best = kNever;
  for (const float logit : logits) {
    if (std::isnan(logit)) throw std::runtime_error("a logit is not a number");
    best = std::max(best, logit);
  }
  if (best == kNever) throw std::runtime_error("no token is possible");
  if (!std::isfinite(best)) throw std::runtime_error("a logit is infinite");
  return best;
}

// Log of the sum of exponentials: what turns logits into log probabilities.
double log_sum(std::span<const float> logits) {
  const float best = largest(logits);
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit - best));
  }
  return static_cast<double>(best) + std::log(sum);
}

// [0, 1): 53 bits.
double uniform(std::uint64_t key, std::uint64_t counter) {
  return static_cast<double>(intro::mix64(key ^ intro::mix64(counter)) >> 11) *
         0x1p-53;
}

}  // namespace

const char* finish_name(FinishReason reason) {
  constexpr const char* kNames[] = {"", "stop", "length", "cancelled", "error"};
  return kNames[static_cast<int>(reason)];
}

void Sampler::penalize(const Sequence& sequence, std::span<float> logits) {
  const SamplingParams& p = sequence.asked->sampling;
  if (p.repetition_penalty == 1 && p.presence_penalty == 0 &&
      p.frequency_penalty == 0) {
    return;
  }
  // Output counts in the upper bits, bit 0 for having occurred at all.
  const auto prompt = static_cast<std::size_t>(sequence.prompt_tokens());
  for (std::size_t i = 0; i < sequence.tokens.size(); ++i) {
    std::int32_t& count =
        counts_.at(static_cast<std::size_t>(sequence.tokens[i]));
    count = (count | 1) + (i < prompt ? 0 : 2);
  }
  for (const std::int32_t token : sequence.tokens) {
    const auto at = static_cast<std::size_t>(token);
    const std::int32_t count = std::exchange(counts_[at], 0);
    if (count == 0) continue;  // seen before in this loop
    const auto repetition = static_cast<float>(p.repetition_penalty);
    float& logit = logits[at];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (const std::int32_t times = count / 2; times > 0) {
      logit -=
          static_cast<float>(p.presence_penalty + p.frequency_penalty * times);
    }
  }
}

void Sampler::collect(std::span<const float> logits, float least) {
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= least && logits[i] > kNever) {
      candidates_.push_back({logits[i], static_cast<std::int32_t>(i)});
    }
  }
}

void Sampler::keep_first(std::size_t n) {
  sort_first(n);
  candidates_.resize(std::min(n, candidates_.size()));
}

void Sampler::sort_first(std::size_t n) {
  const auto middle =
      candidates_.begin() +
      static_cast<std::ptrdiff_t>(std::min(n, candidates_.size()));
  std::partial_sort(candidates_.begin(), middle, candidates_.end());
}

std::int32_t Sampler::draw_among(const SamplingParams& params, double random,
                                 std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (params.temperature == 0) {
    return static_cast<std::int32_t>(best - logits.begin());
  }
  const float least = params.min_p == 0
                          ? kNever
                          : *best + static_cast<float>(params.temperature *
                                                       std::log(params.min_p));
  collect(logits, least);
  if (params.top_k > 0) keep_first(static_cast<std::size_t>(params.top_k));
  const auto weight = [&](const Candidate& c) {
    return std::exp(static_cast<double>(c.logit - *best) / params.temperature);
  };
  double sum = 0;
  for (const Candidate& c : candidates_) sum += weight(c);
  if (params.top_p < 1) {
    // Sorted as far as needed: most often a few tokens hold nearly all.
    double reached = 0;
    std::size_t sorted = 0, kept = 0;
    while (kept < candidates_.size() && reached < params.top_p * sum) {
      if (kept == sorted)
        sort_first(sorted = std::max<std::size_t>(64, sorted * 8));
      reached += weight(candidates_[kept++]);
    }
    candidates_.resize(kept);
    sum = reached;
  }
  double left = random * sum;
  for (const Candidate& c : candidates_) {
    left -= weight(c);
    if (left < 0) return c.token;
  }
  return candidates_.back().token;  // rounding ate the rest
}

TokenLogprob Sampler::draw(const Sequence& sequence, std::span<float> logits,
                           std::span<const std::int32_t> ends) {
  const SamplingParams& p = sequence.asked->sampling;
  TokenLogprob drawn;
  std::vector<float> raw;
  if (p.logprobs >= 0) raw.assign(logits.begin(), logits.end());
  for (const auto& processor : p.processors)
    processor->process(sequence, logits);
  if (sequence.output_tokens() < p.min_tokens) {
    for (const auto ids : {ends, std::span(p.stop_ids)}) {
      for (const auto id : ids) logits[static_cast<std::size_t>(id)] = kNever;
    }
  }
  for (const auto& [id, bias] : p.logit_bias) {
    logits[static_cast<std::size_t>(id)] += bias;
  }
  penalize(sequence, logits);
  largest(logits);  // numbers, and one of them possible
  const std::uint64_t key =
      p.seed ? intro::stream_key(*p.seed, "draw")
             : intro::mix64(intro::stream_key(seed_, "request") ^
                            static_cast<std::uint64_t>(sequence.request));
  drawn.token = draw_among(
      p,
      uniform(intro::mix64(key ^ static_cast<std::uint64_t>(sequence.index)),
              static_cast<std::uint64_t>(sequence.output_tokens())),
      logits);
  if (p.logprobs >= 0) {
    const double normalizer = log_sum(raw);
    const auto logprob = [&](std::int32_t token) {
      return static_cast<float>(
          static_cast<double>(raw[static_cast<std::size_t>(token)]) -
          normalizer);
    };
    drawn.logprob = logprob(drawn.token);
    collect(raw, kNever);
    keep_first(static_cast<std::size_t>(p.logprobs));
    for (const Candidate& c : candidates_) {
      drawn.best.emplace_back(c.token, logprob(c.token));
    }
  }
  return drawn;
}

}  // namespace dai::paged
