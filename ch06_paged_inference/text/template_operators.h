// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the signs of a chat template's expressions do to values: Python's
// meaning, integers of 64 bits. Each throws UsageError for values that do not
// fit and for results that would be too large; the message has no place, which
// the renderer puts before it.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "ch06_paged_inference/text/template_builtins.h"

namespace dai::paged {

// A template's text and lists hold no more.
inline constexpr std::size_t kMostTemplateBytes = std::size_t{64} << 20;

// Undefined where there is none; an undefined value has none to ask for.
TemplateValue member_of(const TemplateValue& object, const std::string& name);
TemplateValue item_of(const TemplateValue& object, const TemplateValue& at);
TemplateValue slice_of(const TemplateValue& object,
                       std::optional<std::int64_t> begin,
                       std::optional<std::int64_t> end, std::int64_t step);
TemplateValue range_of(const CallArguments& arguments);

TemplateValue apply_unary(const std::string& sign, const TemplateValue& value);
// All but "and" and "or", which need not look at both.
TemplateValue apply_binary(const std::string& sign, const TemplateValue& a,
                           const TemplateValue& b);

}  // namespace dai::paged
