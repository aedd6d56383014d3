// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a pre-tokenizer must know of Unicode: where a character ends, and
// whether it is a letter (\p{L}), a number (\p{N}), white space (\s) or none of
// these. Version 16.0.0, because a tokenizer's expressions mean the version
// that trained it (make_unicode_tables.py says more).
//
//   for (std::size_t at = 0; at < text.size();) {
//     const Character c = character_at(text, at);
//     if (c.kind == CharacterKind::kLetter) ...
//     at += c.bytes;
//   }
//
// Bytes that are not UTF-8 are characters of one byte and of kind kOther: any
// bytes can be tokenized and come back.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dai::intro {

enum class CharacterKind : std::uint8_t { kOther, kLetter, kNumber, kSpace };

struct Character {
  char32_t code = 0;  // of an invalid byte: 0xFFFD
  std::uint8_t bytes = 1;
  CharacterKind kind = CharacterKind::kOther;
};

// The character that begins at text[at]; at < text.size().
Character character_at(std::string_view text, std::size_t at);

void append_utf8(char32_t code, std::string& text);

// char::is_numeric of the library whose Digits step we follow: it knows
// Unicode 17 where the expressions know 16.
bool is_digit_step_number(const Character& c);

}  // namespace dai::intro
