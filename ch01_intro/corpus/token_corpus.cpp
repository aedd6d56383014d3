// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/corpus/token_corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "ch01_intro/sampler.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

// Of the validation windows' order: what is held back must not depend on the
// seed of a training run, or two runs' validation losses could not be compared.
constexpr std::uint64_t kValidationSeed = 1;

// The last window of a chunk needs one token more than its inputs.
std::int64_t chunk_tokens(const TokenCorpusOptions& options) {
  return options.chunk_windows * options.window + 1;
}

void check(const TokenCorpusOptions& o) {
  if (o.vocab_size < 1 || o.window < 1 || o.chunk_windows < 1 ||
      o.validation_every < 2) {
    throw UsageError(fmt::format(
        "corpus of vocabulary {}, window {}, {} windows a chunk, each {}th "
        "chunk held back: at least 1, 1, 1 and 2 are expected",
        o.vocab_size, o.window, o.chunk_windows, o.validation_every));
  }
}

}  // namespace

TokenCorpus::TokenCorpus(std::vector<std::int32_t> tokens,
                         const TokenCorpusOptions& options)
    : options_((check(options), options)), tokens_(std::move(tokens)) {
  const auto size = static_cast<std::int64_t>(tokens_.size());
  chunks_ = size / chunk_tokens(options_);
  if (chunks_ < options_.validation_every) {
    throw UsageError(fmt::format(
        "the text has {} tokens, {} are needed: {} chunks of {} windows of {} "
        "tokens and one token more, of which the last is for validation",
        size, options_.validation_every * chunk_tokens(options_),
        options_.validation_every, options_.chunk_windows, options_.window));
  }
  const auto foreign = std::find_if(
      tokens_.begin(), tokens_.end(),
      [&](std::int32_t id) { return id < 0 || id >= options_.vocab_size; });
  if (foreign != tokens_.end()) {
    throw UsageError(
        fmt::format("token {} at position {} is outside the vocabulary of {}",
                    *foreign, foreign - tokens_.begin(), options_.vocab_size));
  }
}

std::int64_t TokenCorpus::windows(CorpusSplit split) const {
  const std::int64_t held_back = chunks_ / options_.validation_every;
  const std::int64_t chunks =
      split == CorpusSplit::kValidation ? held_back : chunks_ - held_back;
  return chunks * options_.chunk_windows;
}

std::int64_t TokenCorpus::window_begin(CorpusSplit split,
                                       std::int64_t index) const {
  if (index < 0 || index >= windows(split)) {
    throw std::invalid_argument(
        fmt::format("window {} of {}", index, windows(split)));
  }
  const std::int64_t every = options_.validation_every;
  const std::int64_t nth = index / options_.chunk_windows;  // of its split
  const std::int64_t chunk =
      split == CorpusSplit::kValidation
          ? nth * every + every - 1
          : nth / (every - 1) * every + nth % (every - 1);
  return chunk * chunk_tokens(options_) +
         index % options_.chunk_windows * options_.window;
}

std::int64_t TokenCorpus::window_of(const Request& request,
                                    std::int64_t sample) const {
  const std::int64_t count = windows(request.split);
  const std::int64_t place =
      (request.step * request.microbatches + request.microbatch) *
          request.samples +
      sample;
  const bool held_back = request.split == CorpusSplit::kValidation;
  return static_cast<std::int64_t>(
      sample_at(held_back ? kValidationSeed : options_.seed,
                held_back ? 0 : place / count, place % count, count));
}

void TokenCorpus::fill(const Request& request, std::span<std::int64_t> inputs,
                       std::span<std::int64_t> targets) const {
  const auto wanted =
      static_cast<std::size_t>(request.samples * options_.window);
  if (inputs.size() != wanted || targets.size() != wanted) {
    throw std::invalid_argument(fmt::format(
        "buffers of {} and {} tokens for {} samples of {}", inputs.size(),
        targets.size(), request.samples, options_.window));
  }
  auto input = inputs.begin();
  auto target = targets.begin();
  for (std::int64_t sample = 0; sample < request.samples; ++sample) {
    const auto first = tokens_.begin() +
                       window_begin(request.split, window_of(request, sample));
    input = std::copy_n(first, options_.window, input);
    target = std::copy_n(first + 1, options_.window, target);
  }
}

}  // namespace dai::intro
