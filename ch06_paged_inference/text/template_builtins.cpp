// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "ch06_paged_inference/text/python_text.h"
#include "common/errors.h"

namespace dai::paged {
namespace {

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw UsageError(fmt::format(text, std::forward<Args>(args)...));
}

const MarkedText& want_text(const TemplateValue& value, std::string_view who) {
  if (value.text() == nullptr) {
    fail("{} wants a string, not {}", who, value.type_name());
  }
  return *value.text();
}

std::int64_t length(const TemplateValue& value) {
  if (value.text() != nullptr) return characters(*value.text());
  if (value.list() != nullptr) return std::ssize(*value.list());
  if (value.dict() != nullptr) return std::ssize(*value.dict());
  if (value.is_undefined()) return 0;
  fail("{} has no length", value.type_name());
}

TemplateValue to_integer(const TemplateValue& value) {
  if (double number = 0; value.number(number)) {
    return static_cast<std::int64_t>(number);
  }
  std::int64_t integer = 0;
  if (const MarkedText* text = value.text()) {
    const MarkedText digits = strip(*text, true, true);
    std::from_chars(digits.text().data(), digits.text().data() + digits.size(),
                    integer);
  }
  return integer;
}

TemplateValue joined(const TemplateValue& value, const CallArguments& args) {
  const TemplateValue* separator = args.find(0, "d");
  MarkedText out;
  bool first = true;
  for (const TemplateValue& element : elements_of(value)) {
    if (!first && separator != nullptr) out += separator->to_text();
    first = false;
    out += element.to_text();
  }
  return out;
}

// selectattr("role", "equalto", "user"): the elements whose member passes.
TemplateValue selected(const TemplateValue& value, const CallArguments& args,
                       bool by_member, bool keep) {
  std::size_t at = 0;
  std::string member;
  if (by_member) member = args.text(at++, "", "");
  const std::string test = args.text(at++, "", "");
  CallArguments rest;
  for (; at < args.positional.size(); ++at) {
    rest.positional.push_back(args.positional[at]);
  }
  ValueList kept;
  for (const TemplateValue& element : elements_of(value)) {
    const TemplateValue* of = by_member ? element.member(member) : &element;
    const TemplateValue judged = of == nullptr ? TemplateValue() : *of;
    const bool passes =
        test.empty() ? judged.truth() : apply_test(test, judged, rest);
    if (passes == keep) kept.push_back(element);
  }
  return list_value(std::move(kept));
}

TemplateValue mapped(const TemplateValue& value, const CallArguments& args) {
  ValueList list;
  const TemplateValue* attribute = args.find(99, "attribute");
  for (const TemplateValue& element : elements_of(value)) {
    if (attribute == nullptr) {
      list.push_back(apply_filter(args.text(0, "", ""), element, {}));
      continue;
    }
    const TemplateValue* member = element.member(attribute->to_text().text());
    list.push_back(member == nullptr ? TemplateValue() : *member);
  }
  return list_value(std::move(list));
}

}  // namespace

const TemplateValue* CallArguments::find(std::size_t position,
                                         std::string_view name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& [key, value] : keywords) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::string CallArguments::text(std::size_t position, std::string_view name,
                                std::string_view fallback) const {
  const TemplateValue* value = find(position, name);
  return value == nullptr ? std::string(fallback) : value->to_text().text();
}

ValueList elements_of(const TemplateValue& value) {
  if (value.list() != nullptr) return *value.list();
  ValueList list;
  if (const ValueDict* dict = value.dict()) {
    for (const auto& [name, member] : *dict) {
      list.push_back(text_value(name, Author::kUser));
    }
  } else if (const MarkedText* text = value.text()) {
    const std::string& s = text->text();
    for (std::size_t at = 0; at < s.size();) {
      std::size_t n = 1;
      while (at + n < s.size() &&
             (static_cast<unsigned char>(s[at + n]) & 0xc0) == 0x80) {
        ++n;
      }
      list.emplace_back(text->substr(at, n));
      at += n;
    }
  } else if (!value.is_undefined()) {
    fail("{} has no elements", value.type_name());
  }
  return list;
}

bool contains(const TemplateValue& haystack, const TemplateValue& needle) {
  if (const MarkedText* text = haystack.text()) {
    return text->text().find(want_text(needle, "'in'").text()) !=
           std::string::npos;
  }
  if (haystack.dict() != nullptr) {
    return needle.text() != nullptr &&
           haystack.member(needle.text()->text()) != nullptr;
  }
  const ValueList list = elements_of(haystack);
  return std::any_of(list.begin(), list.end(),
                     [&](const TemplateValue& v) { return equal(v, needle); });
}

int compare(const TemplateValue& a, const TemplateValue& b) {
  double x = 0, y = 0;
  if (a.number(x) && b.number(y)) return x < y ? -1 : x > y ? 1 : 0;
  if (a.text() != nullptr && b.text() != nullptr) {
    const int order = a.text()->text().compare(b.text()->text());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  fail("{} and {} have no order", a.type_name(), b.type_name());
}

TemplateValue apply_filter(const std::string& name, const TemplateValue& value,
                           const CallArguments& args) {
  if (name == "trim") return strip(value.to_text(), true, true);
  if (name == "upper") return value.to_text().each(upper);
  if (name == "lower") return value.to_text().each(lower);
  if (name == "title") return title(value.to_text(), true);
  if (name == "capitalize") return title(value.to_text(), false);
  if (name == "string" || name == "safe") return value.to_text();
  if (name == "length" || name == "count") return length(value);
  if (name == "list") return list_value(elements_of(value));
  if (name == "int") return to_integer(value);
  if (name == "join") return joined(value, args);
  if (name == "select") return selected(value, args, false, true);
  if (name == "reject") return selected(value, args, false, false);
  if (name == "selectattr") return selected(value, args, true, true);
  if (name == "rejectattr") return selected(value, args, true, false);
  if (name == "map") return mapped(value, args);
  if (name == "items") return call_method(value, "items", args);
  if (name == "first" || name == "last") {
    const ValueList list = elements_of(value);
    if (list.empty()) return Undefined{};
    return name == "first" ? list.front() : list.back();
  }
  if (name == "reverse") {
    ValueList list = elements_of(value);
    std::reverse(list.begin(), list.end());
    return list_value(std::move(list));
  }
  if (name == "default" || name == "d") {
    const TemplateValue* instead = args.find(0, "default_value");
    const TemplateValue* falsy = args.find(1, "boolean");
    const bool use = value.is_undefined() ||
                     (falsy != nullptr && falsy->truth() && !value.truth());
    if (!use) return value;
    return instead == nullptr ? text_value("") : *instead;
  }
  if (name == "replace") {
    const TemplateValue* to = args.find(1, "new");
    return replaced(value.to_text(), args.text(0, "old", ""),
                    to == nullptr ? MarkedText() : to->to_text(), -1);
  }
  if (name == "tojson") {
    const TemplateValue* indent = args.find(99, "indent");
    double spaces = -1;
    if (indent != nullptr) indent->number(spaces);
    return to_json_text(value,
                        static_cast<int>(std::clamp(spaces, -1.0, 16.0)));
  }
  fail("the filter '{}' is not supported", name);
}

bool apply_test(const std::string& name, const TemplateValue& value,
                const CallArguments& args) {
  const auto argument = [&]() -> const TemplateValue& {
    if (args.positional.empty()) fail("the test '{}' wants a value", name);
    return args.positional[0];
  };
  const auto integer = [&] { return value.get<std::int64_t>() != nullptr; };
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.text() != nullptr;
  if (name == "mapping") return value.dict() != nullptr;
  if (name == "integer") return integer();
  if (name == "float") return value.get<double>() != nullptr;
  if (name == "boolean") return value.get<bool>() != nullptr;
  if (name == "true" || name == "false") {
    const bool* flag = value.get<bool>();
    return flag != nullptr && *flag == (name == "true");
  }
  if (name == "number") {
    double number = 0;
    return value.number(number);
  }
  if (name == "iterable" || name == "sequence") {
    return value.text() != nullptr || value.list() != nullptr ||
           value.dict() != nullptr;
  }
  if (name == "odd" || name == "even" || name == "divisibleby") {
    const std::int64_t* by = nullptr;
    const std::int64_t two = 2;
    if (name == "divisibleby") {
      by = argument().get<std::int64_t>();
    } else {
      by = &two;
    }
    if (!integer() || by == nullptr || *by == 0 || *by == -1) {
      fail("the test '{}' wants integers", name);
    }
    return (*value.get<std::int64_t>() % *by == 0) != (name == "odd");
  }
  if (name == "equalto" || name == "eq" || name == "==") {
    return equal(value, argument());
  }
  if (name == "ne" || name == "!=") return !equal(value, argument());
  if (name == "gt") return compare(value, argument()) > 0;
  if (name == "lt") return compare(value, argument()) < 0;
  if (name == "in") return contains(argument(), value);
  fail("the test '{}' is not supported", name);
}

TemplateValue call_method(const TemplateValue& object, const std::string& name,
                          const CallArguments& args) {
  if (const MarkedText* text = object.text()) {
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
      return strip(*text, name != "rstrip", name != "lstrip",
                   args.text(0, "chars", ""));
    }
    if (name == "upper") return text->each(upper);
    if (name == "lower") return text->each(lower);
    if (name == "title") return title(*text, true);
    if (name == "capitalize") return title(*text, false);
    if (name == "startswith" || name == "endswith") {
      const std::string part = args.text(0, "", "");
      return name == "startswith" ? text->text().starts_with(part)
                                  : text->text().ends_with(part);
    }
    if (name == "find") {
      const std::size_t found = text->text().find(args.text(0, "", ""));
      return found == std::string::npos ? std::int64_t{-1}
                                        : characters(text->substr(0, found));
    }
    if (name == "count") {
      const std::string part = args.text(0, "", "");
      std::int64_t n = 0;
      for (std::size_t at = 0; !part.empty();) {
        at = text->text().find(part, at);
        if (at == std::string::npos) break;
        ++n;
        at += part.size();
      }
      return n;
    }
    if (name == "replace") {
      const TemplateValue* to = args.find(1, "new");
      const TemplateValue* most = args.find(2, "count");
      double limit = -1;
      if (most != nullptr) most->number(limit);
      return replaced(*text, args.text(0, "old", ""),
                      to == nullptr ? MarkedText() : to->to_text(),
                      static_cast<std::int64_t>(limit));
    }
    if (name == "split") {
      const TemplateValue* separator = args.find(0, "sep");
      const TemplateValue* most = args.find(1, "maxsplit");
      double limit = -1;
      if (most != nullptr) most->number(limit);
      std::optional<std::string> by;
      if (separator != nullptr && !separator->is_none()) {
        by = separator->to_text().text();
      }
      return split(*text, by, static_cast<std::int64_t>(limit));
    }
    if (name == "join") {
      const TemplateValue* parts = args.find(0, "iterable");
      if (parts == nullptr) fail("join() wants something to join");
      return joined(*parts, {{object}, {}});
    }
  }
  if (const ValueDict* dict = object.dict()) {
    if (name == "get") {
      const TemplateValue* found = object.member(args.text(0, "key", ""));
      if (found != nullptr) return *found;
      const TemplateValue* instead = args.find(1, "default");
      return instead == nullptr ? TemplateValue(None{}) : *instead;
    }
    if (name == "items" || name == "keys" || name == "values") {
      ValueList list;
      for (const auto& [key, value] : *dict) {
        TemplateValue shown = text_value(key, Author::kUser);
        list.push_back(name == "items"    ? list_value({shown, value})
                       : name == "values" ? value
                                          : shown);
      }
      return list_value(std::move(list));
    }
  }
  fail("{} has no method '{}' that is supported", object.type_name(), name);
}

}  // namespace dai::paged
