// SPDX-License-Identifier: Apache-2.0
#pragma once

// Methods of Python's str on text that knows its authors: what is cut out keeps
// them. Letters are ASCII's; white space is Unicode's. Each throws UsageError
// for arguments that do not fit.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ch06_paged_inference/text/template_value.h"

namespace dai::paged {

char lower(char c);
char upper(char c);
// Of these characters, or of white space where there are none.
MarkedText strip(const MarkedText& text, bool left, bool right,
                 std::string_view characters = {});
// "one two": of each word the first letter large, the others small; or of the
// first word only.
MarkedText title(const MarkedText& text, bool every_word);
// The first `most`; a negative number: all.
MarkedText replaced(const MarkedText& text, const std::string& from,
                    const MarkedText& to, std::int64_t most);
// A list of at most `most` + 1 parts; a negative number: of as many as there
// are. Without a separator at white space.
TemplateValue split(const MarkedText& text,
                    const std::optional<std::string>& separator,
                    std::int64_t most);
std::int64_t characters(const MarkedText& text);

}  // namespace dai::paged
