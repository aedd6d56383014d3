// SPDX-License-Identifier: Apache-2.0
#pragma once

// The loss that a language model has to beat before anybody calls it one: that
// of a table of which token follows which, counted in the training split, by
// absolute discounting (Ney, Essen, Kneser, 1994):
//
//   P(b | a) = (max(n(a, b) - d, 0) + d kinds(a) P(b)) / n(a),    d = 0.75
//   P(b)     = (n(b) + 1) / (n + vocabulary)
//
// where kinds(a) is how many different tokens follow a. A token that was never
// seen is followed by what P(b) says.
//
//   const double nats = bigram_loss(corpus, /*windows=*/240);
//
// Mean over the targets of the first `windows` validation windows, which are
// those that chapter 1's evaluate() takes. Torch-free.

#include <cstdint>

#include "ch01_intro/corpus/token_corpus.h"

namespace dai::ddp {

double bigram_loss(const intro::TokenCorpus& corpus, std::int64_t windows);

}  // namespace dai::ddp
