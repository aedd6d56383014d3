// SPDX-License-Identifier: Apache-2.0
#pragma once

// Cuts a template into text and the tokens between its tags.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dai::paged {

struct TemplateToken {
  enum class Kind : std::uint8_t {
    kText,         // between tags, white space trimmed
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // unescaped
    kInteger,
    kFloat,
    kSign,  // operators and brackets
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 0;
};

// Ends with kEnd. Throws UsageError ("where: chat template line N: ...").
std::vector<TemplateToken> template_tokens(std::string_view source,
                                           std::string_view where);

}  // namespace dai::paged
