// SPDX-License-Identifier: Apache-2.0
#pragma once

// The heart of BPE: the bytes of one word become ids by joining neighbours,
// always the pair of lowest rank, of several the leftmost.
//
//   const BpeMerges merges(parts, "'tokenizer.json'");
//   std::vector<std::int32_t> ids;
//   merges.append_word(" the", ids);
//
// Short words: look at all pairs, join the best, again. Long ones: a linked
// list of symbols and a heap of pairs, n log n, so that a megabyte without a
// space is no way to stop a server.
// Throws UsageError as tokenizer.h says.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"
#include "ch01_intro/tokenizer/word_table.h"

namespace dai::intro {

class BpeMerges {
 public:
  BpeMerges(const TokenizerParts& parts, std::string_view where);

  void append_word(std::string_view word, std::vector<std::int32_t>& ids) const;

  // The id of a token of the vocabulary (not of added tokens), or -1.
  std::int32_t find(std::string_view token) const;

 private:
  void join_short(std::vector<std::int32_t>& ids, std::size_t begin) const;
  void join_long(std::vector<std::int32_t>& ids, std::size_t begin) const;
  std::int32_t id_of_byte(char byte) const;

  WordTable tokens_;                     // the vocabulary, without holes
  std::vector<std::int32_t> token_ids_;  // of each of tokens_
  std::array<std::int32_t, 256> byte_ids_{};
  std::int32_t unk_id_ = -1;
  bool ignore_merges_ = false;
  PairTable pairs_;                   // its index is the rank
  std::vector<std::int32_t> joined_;  // [rank]
};

}  // namespace dai::intro
