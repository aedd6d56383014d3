// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which tokens a training step sees. A text's tokens are cut into chunks; some
// chunks are held back for validation; the rest is read in windows of a fixed
// length whose order is shuffled anew each epoch. All of it is arithmetic on
// (seed, step, microbatch id, sample): no state to save, nothing to send, and
// no number of ranks in any formula, so every world size sees the same global
// batches and a resumed run goes on where it stopped.
//
//   TokenCorpus corpus(tokens, {.vocab_size = 4096, .window = 128});
//   std::vector<std::int64_t> inputs(8 * 128), targets(8 * 128);
//   corpus.fill({.step = 7, .microbatch = 3, .microbatches = 12, .samples = 8},
//               inputs, targets);
//
// A window holds `window` + 1 tokens: inputs are its first `window`, targets
// its last. Windows of one chunk do not overlap in their inputs, and none
// crosses a chunk's end: no token of the validation split is ever an input or
// a target in training, nor the other way round.
//
// Torch-free; buffers belong to the caller.
// Throws UsageError: a text too short for a training and a validation window
// (naming both numbers of tokens), a token outside the vocabulary (naming its
// position), options that make no sense. std::invalid_argument: buffers of the
// wrong length.

#include <cstdint>
#include <span>
#include <vector>

namespace dai::intro {

struct TokenCorpusOptions {
  std::int64_t vocab_size = 0;  // ids are 0 .. vocab_size - 1
  std::int64_t window = 128;
  std::int64_t chunk_windows = 64;  // windows of one chunk
  std::int64_t validation_every =
      20;  // of so many chunks the last is held back
  std::uint64_t seed = 1234;
};

enum class CorpusSplit { kTrain, kValidation };

class TokenCorpus {
 public:
  TokenCorpus(std::vector<std::int32_t> tokens,
              const TokenCorpusOptions& options);

  // Windows of a split.
  std::int64_t windows(CorpusSplit split) const;
  std::int64_t window() const { return options_.window; }
  std::int64_t vocab_size() const { return options_.vocab_size; }
  const std::vector<std::int32_t>& tokens() const { return tokens_; }

  // The place in the text at which window `index` of a split begins.
  std::int64_t window_begin(CorpusSplit split, std::int64_t index) const;

  struct Request {
    std::int64_t step = 0;
    std::int64_t microbatch = 0;    // 0 .. microbatches - 1
    std::int64_t microbatches = 1;  // of a step, over all ranks
    std::int64_t samples = 1;       // of a microbatch
    CorpusSplit split = CorpusSplit::kTrain;
  };
  // The window at `sample` of the request: the epoch's shuffled order for
  // training; for validation one shuffled order, the same for every seed, round
  // and round, so that the first few are a sample of the whole text.
  std::int64_t window_of(const Request& request, std::int64_t sample) const;

  // inputs, targets: [samples, window], one row after the other.
  void fill(const Request& request, std::span<std::int64_t> inputs,
            std::span<std::int64_t> targets) const;

 private:
  TokenCorpusOptions options_;
  std::vector<std::int32_t> tokens_;
  std::int64_t chunks_ = 0;  // whole ones; a rest is not used
};

}  // namespace dai::intro
