// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/bigram.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

namespace dai::ddp {
namespace {

constexpr double kDiscount = 0.75;

using intro::CorpusSplit;
using intro::TokenCorpus;

// Counts of the training split.
class Bigrams {
 public:
  explicit Bigrams(const TokenCorpus& corpus)
      : vocabulary_(corpus.vocab_size()),
        follows_(vocabulary_),
        kinds_(vocabulary_),
        tokens_(vocabulary_) {
    const auto& text = corpus.tokens();
    for (std::int64_t w = 0; w < corpus.windows(CorpusSplit::kTrain); ++w) {
      const std::int64_t begin = corpus.window_begin(CorpusSplit::kTrain, w);
      for (std::int64_t i = 0; i < corpus.window(); ++i) {
        count(text[begin + i], text[begin + i + 1]);
      }
    }
  }

  double probability(std::int64_t a, std::int64_t b) const {
    const double alone = (static_cast<double>(tokens_[b]) + 1) /
                         static_cast<double>(all_ + vocabulary_);
    if (follows_[a] == 0) return alone;
    const auto found = pairs_.find(a * vocabulary_ + b);
    const double seen =
        found == pairs_.end() ? 0 : static_cast<double>(found->second);
    return (std::max(seen - kDiscount, 0.0) +
            kDiscount * static_cast<double>(kinds_[a]) * alone) /
           static_cast<double>(follows_[a]);
  }

 private:
  void count(std::int64_t a, std::int64_t b) {
    kinds_[a] += pairs_[a * vocabulary_ + b]++ == 0;
    ++follows_[a];
    ++tokens_[b];
    ++all_;
  }

  const std::int64_t vocabulary_;
  std::unordered_map<std::int64_t, std::int64_t> pairs_;
  std::vector<std::int64_t> follows_;  // n(a)
  std::vector<std::int64_t> kinds_;
  std::vector<std::int64_t> tokens_;  // n(b)
  std::int64_t all_ = 0;
};

}  // namespace

double bigram_loss(const TokenCorpus& corpus, std::int64_t windows) {
  const Bigrams bigrams(corpus);
  std::vector<std::int64_t> inputs(windows * corpus.window());
  std::vector<std::int64_t> targets(inputs.size());
  corpus.fill({.samples = windows, .split = CorpusSplit::kValidation}, inputs,
              targets);
  double sum = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    sum -= std::log(bigrams.probability(inputs[i], targets[i]));
  }
  return sum / static_cast<double>(inputs.size());
}

}  // namespace dai::ddp
