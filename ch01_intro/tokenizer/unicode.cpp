// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <span>

#include "ch01_intro/corpus/utf8.h"

namespace dai::intro {
namespace {

struct CodePointRange {
  char32_t first, last;
};
#include "ch01_intro/tokenizer/unicode_tables.inc"

// Property White_Space.
constexpr CodePointRange kSpaceRanges[] = {
    {0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
    {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
    {0x205f, 0x205f}, {0x3000, 0x3000}};

bool is_in(std::span<const CodePointRange> ranges, char32_t code) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), code,
      [](char32_t c, const CodePointRange& range) { return c < range.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
}

CharacterKind search(char32_t code) {
  if (is_in(kLetterRanges, code)) return CharacterKind::kLetter;
  if (is_in(kNumberRanges, code)) return CharacterKind::kNumber;
  if (is_in(kSpaceRanges, code)) return CharacterKind::kSpace;
  return CharacterKind::kOther;
}

// Nearly all text lies below U+10000: one byte a code point there, a search
// above.
constexpr char32_t kPlane = 0x10000;
using KindTable = std::array<CharacterKind, kPlane>;

const KindTable& kind_table() {
  static const KindTable table = [] {
    KindTable kinds{};
    const auto set = [&](std::span<const CodePointRange> ranges,
                         CharacterKind kind) {
      for (const auto& [first, last] : ranges) {
        for (char32_t c = first; c <= last && c < kPlane; ++c) kinds[c] = kind;
      }
    };
    set(kLetterRanges, CharacterKind::kLetter);
    set(kNumberRanges, CharacterKind::kNumber);
    set(kSpaceRanges, CharacterKind::kSpace);
    return kinds;
  }();
  return table;
}

std::uint8_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

}  // namespace

Character character_at(std::string_view text, std::size_t at) {
  const std::uint8_t first = byte_at(text, at);
  const KindTable& kinds = kind_table();
  if (first < 0x80) return {first, 1, kinds[first]};
  const std::size_t length = well_formed_bytes(text.substr(at, 4));
  if (length == 0) return {0xfffd, 1, CharacterKind::kOther};
  char32_t code = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    code = code << 6 | (byte_at(text, at + i) & 0x3fU);
  }
  return {code, static_cast<std::uint8_t>(length),
          code < kPlane ? kinds[code] : search(code)};
}

void append_utf8(char32_t code, std::string& text) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

bool is_digit_step_number(const Character& c) {
  return c.kind == CharacterKind::kNumber ||
         (c.code >= 0x11de0 && c.code <= 0x11de9) ||
         (c.code >= 0x16ff4 && c.code <= 0x16ff6);
}

}  // namespace dai::intro
