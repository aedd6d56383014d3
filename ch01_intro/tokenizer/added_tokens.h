// SPDX-License-Identifier: Apache-2.0
#pragma once

// Finds added tokens in a text as it stands: the leftmost, of several there the
// longest. A token may take the white space around it along.
//
//   const AddedTokenMatcher matcher(tokens);   // one pass's tokens
//   matcher.split(text, skip_special,
//                 [](std::string_view text, std::int32_t id) { ... });
//
// Linear in the text where few positions begin like a token.

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"
#include "ch01_intro/tokenizer/word_table.h"

namespace dai::intro {

class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  // Parts in the text's order: text without tokens (id -1, never empty), or a
  // token and what it covers. A special token that is skipped is text, yet
  // hides the tokens that overlap it.
  using Part = std::function<void(std::string_view, std::int32_t id)>;
  void split(std::string_view text, bool skip_special, const Part& part) const;

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at) const;
  std::vector<AddedToken> tokens_;
  WordTable contents_;  // the same order
  // [first byte]: lengths of tokens that begin so, longest first.
  std::array<std::vector<std::size_t>, 256> lengths_;
};

}  // namespace dai::intro
