// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/byte_alphabet.h"

#include <cstdint>

#include "ch01_intro/tokenizer/unicode.h"

namespace dai::intro {
namespace {

constexpr char32_t kAfterLast = 0x144;  // 0x100 + 68

bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
         byte >= 0xae;
}

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> alphabet = [] {
    std::array<char32_t, 256> characters{};
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      characters[byte] = stands_for_itself(byte) ? byte : next++;
    }
    return characters;
  }();
  return alphabet;
}

std::string bytes_to_token(std::string_view bytes) {
  std::string token;
  token.reserve(bytes.size() + bytes.size() / 4);
  for (const char byte : bytes) {
    append_utf8(byte_alphabet()[static_cast<std::uint8_t>(byte)], token);
  }
  return token;
}

std::optional<std::string> alphabet_bytes(std::string_view token) {
  static const std::array<std::int16_t, kAfterLast> bytes = [] {
    std::array<std::int16_t, kAfterLast> inverse{};
    inverse.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      inverse[byte_alphabet()[byte]] = static_cast<std::int16_t>(byte);
    }
    return inverse;
  }();
  std::string result;
  for (std::size_t at = 0; at < token.size();) {
    const Character c = character_at(token, at);
    if (c.code >= kAfterLast || bytes[c.code] < 0) return std::nullopt;
    result += static_cast<char>(bytes[c.code]);
    at += c.bytes;
  }
  return result;
}

std::string token_to_bytes(std::string_view token) {
  auto bytes = alphabet_bytes(token);
  return bytes ? *std::move(bytes) : std::string(token);
}

}  // namespace dai::intro
