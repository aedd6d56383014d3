// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above
// U+10FFFF) and where a text stops being it.
//
//   std::size_t at = first_invalid_utf8(text);
//   if (at != std::string_view::npos) ...   // the byte's offset

#include <string>
#include <string_view>

namespace dai::intro {

// Bytes of the well-formed character at the beginning of `text` (not empty);
// 0 where there is none. Where the text ends inside a character that could
// still become one, `*cut` is the bytes that are there.
std::size_t well_formed_bytes(std::string_view text,
                              std::size_t* cut = nullptr);

// npos where all of it is valid.
std::size_t first_invalid_utf8(std::string_view text);

bool is_utf8(std::string_view text);

// Each byte that does not belong to a valid character becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace dai::intro
