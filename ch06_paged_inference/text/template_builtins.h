// SPDX-License-Identifier: Apache-2.0
#pragma once

// Jinja's filters and tests, and the methods of Python's strings and dicts, as
// far as chat templates use them. Each throws UsageError for a name that it
// does not know and for arguments that do not fit; the message has no place,
// which the renderer puts before it.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ch06_paged_inference/text/template_value.h"

namespace dai::paged {

struct CallArguments {
  ValueList positional;
  ValueDict keywords;

  // By position or keyword; nullptr: not given.
  const TemplateValue* find(std::size_t position, std::string_view name) const;
  std::string text(std::size_t position, std::string_view name,
                   std::string_view fallback) const;
};

TemplateValue apply_filter(const std::string& name, const TemplateValue& value,
                           const CallArguments& arguments);
bool apply_test(const std::string& name, const TemplateValue& value,
                const CallArguments& arguments);
TemplateValue call_method(const TemplateValue& object, const std::string& name,
                          const CallArguments& arguments);

// Python's `needle in haystack`.
bool contains(const TemplateValue& haystack, const TemplateValue& needle);
// -1, 0, 1 as a is less, equal, greater. Throws for what has no order.
int compare(const TemplateValue& a, const TemplateValue& b);
// Elements of a list, characters of a string, names of a dict.
ValueList elements_of(const TemplateValue& value);

}  // namespace dai::paged
