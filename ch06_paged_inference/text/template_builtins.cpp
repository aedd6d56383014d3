// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

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

// A number without its fraction, where 64 bits hold it.
std::int64_t whole(const TemplateValue& value, std::string_view who) {
  double number = 0;
  if (!value.number(number) || !(std::abs(number) < 0x1p53)) {
    fail("{} wants a number below 2^53", who);
  }
  return static_cast<std::int64_t>(number);
}
std::int64_t whole_or(const CallArguments& args, std::size_t position,
                      std::string_view name, std::int64_t otherwise) {
  const TemplateValue* value = args.find(position, name);
  return value == nullptr ? otherwise : whole(*value, name);
}

TemplateValue to_integer(const TemplateValue& value) {
  if (double number = 0; value.number(number)) return whole(value, "int");
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

// What is not understood must not be passed over: the prompt would be another.
struct Accepted {
  std::string_view name;
  std::size_t positional;
  std::string_view keywords;  // each between blanks
};
constexpr std::array<Accepted, 6> kFilters{
    {{"join", 1, " d "},
     {"default", 2, " default_value boolean "},
     {"d", 2, " default_value boolean "},
     {"replace", 2, " old new "},
     {"tojson", 1, " indent "},
     {"map", 99, " attribute "}}};
constexpr std::array<Accepted, 11> kMethods{{{"strip", 1, " chars "},
                                             {"lstrip", 1, " chars "},
                                             {"rstrip", 1, " chars "},
                                             {"startswith", 1, ""},
                                             {"endswith", 1, ""},
                                             {"find", 1, ""},
                                             {"count", 1, ""},
                                             {"replace", 3, " old new count "},
                                             {"split", 2, " sep maxsplit "},
                                             {"join", 1, " iterable "},
                                             {"get", 2, " key default "}}};

void refuse_others(std::span<const Accepted> known, const std::string& name,
                   const CallArguments& args) {
  if (name.starts_with("select") || name.starts_with("reject")) return;
  const auto at = std::ranges::find(known, name, &Accepted::name);
  const Accepted accepted = at == known.end() ? Accepted{name, 0, ""} : *at;
  if (args.positional.size() > accepted.positional) {
    fail("'{}' with {} arguments is not supported", name,
         args.positional.size());
  }
  for (const auto& [keyword, value] : args.keywords) {
    if (accepted.keywords.find(" " + keyword + " ") == std::string_view::npos) {
      fail("'{}' with {} is not supported", name, keyword);
    }
  }
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
    if (text->size() > std::size_t{1} << 20) {
      fail("a text of {} bytes is not taken apart", text->size());
    }
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
  refuse_others(kFilters, name, args);
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
    const std::int64_t indent = whole_or(args, 0, "indent", -1);
    return to_json_text(
        value, static_cast<int>(std::clamp<std::int64_t>(indent, -1, 16)));
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
  refuse_others(kMethods, name, args);
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
      const TemplateValue* what = args.find(0, "");
      if (what == nullptr) fail("{}() wants a string", name);
      const std::string& part = want_text(*what, name).text();
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
      return replaced(*text, args.text(0, "old", ""),
                      to == nullptr ? MarkedText() : to->to_text(),
                      whole_or(args, 2, "count", -1));
    }
    if (name == "split") {
      const TemplateValue* separator = args.find(0, "sep");
      std::optional<std::string> by;
      if (separator != nullptr && !separator->is_none()) {
        by = separator->to_text().text();
      }
      return split(*text, by, whole_or(args, 1, "maxsplit", -1));
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
