// SPDX-License-Identifier: Apache-2.0
#pragma once

// The alphabet in which byte-level BPE writes its pieces down (GPT-2, Radford
// et al. 2019): each of the 256 bytes is one printable character. Printable
// Latin-1 stands for itself, the other 68 bytes are U+0100, U+0101 and so on in
// their order: a space is U+0120, a line feed U+010A.
//
//   bytes_to_token(" de")       -> "\u0120de"
//   token_to_bytes("\u0120de")  -> " de"
//
// What is not written in the alphabet (the token of a chat template with a
// space in it, say) stands for its own UTF-8 bytes.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace dai::intro {

// [byte]: its character.
const std::array<char32_t, 256>& byte_alphabet();

std::string bytes_to_token(std::string_view bytes);

// Nothing where `token` is not written in the alphabet.
std::optional<std::string> alphabet_bytes(std::string_view token);

// As alphabet_bytes(), or `token` itself.
std::string token_to_bytes(std::string_view token);

}  // namespace dai::intro
