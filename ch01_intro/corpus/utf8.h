// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a text stops being UTF-8 (RFC 3629: no overlong forms, no surrogates,
// nothing above U+10FFFF).
//
//   std::size_t at = first_invalid_utf8(text);
//   if (at != std::string_view::npos) ...   // the byte's offset

#include <string>
#include <string_view>

namespace dai::intro {

// npos where all of it is valid.
std::size_t first_invalid_utf8(std::string_view text);

// Each byte that does not belong to a valid character becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace dai::intro
