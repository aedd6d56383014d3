// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/corpus/utf8.h"

#include <cstdint>

namespace dai::intro {

// RFC 3629. The second byte's range is what excludes overlong forms (E0, F0),
// surrogates (ED) and what lies above U+10FFFF (F4).
std::size_t well_formed_bytes(std::string_view text, std::size_t* cut) {
  if (cut != nullptr) *cut = 0;
  const auto first = static_cast<std::uint8_t>(text[0]);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                             : first >= 0xe0 && first <= 0xef ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0) return 0;
  const std::uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const std::uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) {
      if (cut != nullptr) *cut = i;
      return 0;
    }
    const auto byte = static_cast<std::uint8_t>(text[i]);
    if (i == 1 ? byte < low || byte > high : (byte & 0xc0) != 0x80) return 0;
  }
  return length;
}

std::size_t first_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = well_formed_bytes(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

bool is_utf8(std::string_view text) {
  return first_invalid_utf8(text) == std::string_view::npos;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (;;) {
    const std::size_t bad = first_invalid_utf8(text);
    result += text.substr(0, bad);
    if (bad == std::string_view::npos) return result;
    result += "\xef\xbf\xbd";
    text.remove_prefix(bad + 1);
  }
}

}  // namespace dai::intro
