// SPDX-License-Identifier: Apache-2.0
#pragma once

// Learns a byte-level BPE tokenizer from a text (Sennrich et al. 2016, on bytes
// as in GPT-2): begin with the 256 bytes, then join, again and again, the pair
// of neighbours that occurs most often inside the words of the text.
//
//   const Tokenizer tokenizer(train_bpe(text, {.vocab_size = 4096}));
//
// Ids: special tokens first, then the alphabet in its characters' order, then
// the joined pieces in the order in which they were learnt. Of pairs that occur
// equally often, the one with the smaller left id wins, then the smaller right
// id, so that text and options alone decide the result. Vocabulary and merges
// are those of BpeTrainer(initial_alphabet=ByteLevel.alphabet()) in Python's
// `tokenizers`, in the same order.
//
// Counts are kept per pair and only words that hold the joined pair are looked
// at again: about linear in the number of *different* words.
//
// The vocabulary is smaller than asked for when no pair is left.
// Throws UsageError: a vocabulary that cannot hold 256 bytes and the special
// tokens, an empty or repeated special token.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"

namespace dai::intro {

struct TrainBpeOptions {
  std::int64_t vocab_size = 4096;       // special tokens included
  std::int64_t min_frequency = 0;       // of a pair, to be joined
  std::string pre_tokenizer = "gpt-2";  // see pre_tokenizer_steps()
  bool add_prefix_space = false;        // before the text
  std::vector<std::string> special_tokens;
};

TokenizerParts train_bpe(std::string_view text, const TrainBpeOptions& options);

}  // namespace dai::intro
