// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

namespace dai::paged {
namespace {

constexpr int kMostContainers = 100;  // in each other

MarkedText plain(std::string text) {
  return {std::move(text), Author::kTemplate};
}

// repr() of a float: the shortest digits that read back, and always a float.
std::string float_text(double value) {
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  if (std::isnan(value)) return "nan";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

// Quotes and escapes of JSON; the bytes between keep their author.
MarkedText json_string(const MarkedText& text) {
  MarkedText out = plain("\"");
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.text()[i];
    const auto byte = static_cast<unsigned char>(c);
    std::string escaped;
    switch (c) {
      case '"':
        escaped = "\\\"";
        break;
      case '\\':
        escaped = "\\\\";
        break;
      case '\n':
        escaped = "\\n";
        break;
      case '\r':
        escaped = "\\r";
        break;
      case '\t':
        escaped = "\\t";
        break;
      case '\b':
        escaped = "\\b";
        break;
      case '\f':
        escaped = "\\f";
        break;
      default:
        escaped =
            byte < 0x20 ? fmt::format("\\u{:04x}", byte) : std::string(1, c);
    }
    out += MarkedText(std::move(escaped), text.author(i));
  }
  return out += plain("\"");
}

void append_json(const TemplateValue& value, int indent, int level,
                 MarkedText& out) {
  const auto line = [&](int depth) {
    if (indent >= 0) out += plain("\n" + std::string(indent * depth, ' '));
  };
  const MarkedText comma = plain(indent >= 0 ? "," : ", ");
  if (const MarkedText* text = value.text()) {
    out += json_string(*text);
  } else if (const ValueList* list = value.list()) {
    out += plain("[");
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (i > 0) out += comma;
      line(level + 1);
      append_json((*list)[i], indent, level + 1, out);
    }
    if (!list->empty()) line(level);
    out += plain("]");
  } else if (const ValueDict* dict = value.dict()) {
    out += plain("{");
    bool first = true;
    for (const auto& [name, member] : *dict) {
      if (!first) out += comma;
      first = false;
      line(level + 1);
      out += json_string(MarkedText(name, Author::kUser));
      out += plain(": ");
      append_json(member, indent, level + 1, out);
    }
    if (!dict->empty()) line(level);
    out += plain("}");
  } else if (const bool* flag = value.get<bool>()) {
    out += plain(*flag ? "true" : "false");
  } else if (value.is_none() || value.is_undefined()) {
    out += plain("null");
  } else {
    out += value.to_text();
  }
}

// repr(), which str() uses inside lists and dicts.
MarkedText representation(const TemplateValue& value) {
  const MarkedText* text = value.text();
  if (text == nullptr) return value.to_text();
  const bool has_quote = text->text().find('\'') != std::string::npos &&
                         text->text().find('"') == std::string::npos;
  const MarkedText quote = plain(has_quote ? "\"" : "'");
  MarkedText out = quote;
  for (std::size_t i = 0; i < text->size(); ++i) {
    const char c = text->text()[i];
    std::string shown(1, c);
    if (c == '\n') shown = "\\n";
    if (c == '\t') shown = "\\t";
    if (c == '\r') shown = "\\r";
    if (c == '\\') shown = "\\\\";
    if (c == '\'' && !has_quote) shown = "\\'";
    out += MarkedText(std::move(shown), text->author(i));
  }
  return out += quote;
}

}  // namespace

const ValueList* TemplateValue::list() const {
  const auto* p = get<std::shared_ptr<ValueList>>();
  return p == nullptr ? nullptr : p->get();
}

const ValueDict* TemplateValue::dict() const {
  const auto* p = get<std::shared_ptr<ValueDict>>();
  return p == nullptr ? nullptr : p->get();
}

bool TemplateValue::number(double& value) const {
  if (const auto* i = get<std::int64_t>()) {
    value = static_cast<double>(*i);
  } else if (const auto* d = get<double>()) {
    value = *d;
  } else if (const auto* b = get<bool>()) {
    value = *b ? 1 : 0;
  } else {
    return false;
  }
  return true;
}

bool TemplateValue::truth() const {
  if (double value = 0; number(value)) return value != 0;
  if (text() != nullptr) return text()->size() != 0;
  if (list() != nullptr) return !list()->empty();
  if (dict() != nullptr) return !dict()->empty();
  return false;
}

MarkedText TemplateValue::to_text() const {
  if (const MarkedText* t = text()) return *t;
  if (const auto* b = get<bool>()) return plain(*b ? "True" : "False");
  if (const auto* i = get<std::int64_t>()) return plain(fmt::format("{}", *i));
  if (const auto* d = get<double>()) return plain(float_text(*d));
  if (is_none()) return plain("None");
  MarkedText out;
  if (const ValueList* values = list()) {
    for (const TemplateValue& value : *values) {
      out += plain(out.size() == 0 ? "[" : ", ");
      out += representation(value);
    }
    if (out.size() == 0) out += plain("[");
    out += plain("]");
  } else if (const ValueDict* members = dict()) {
    for (const auto& [name, value] : *members) {
      out += plain(out.size() == 0 ? "{" : ", ");
      out += representation(text_value(name, Author::kUser));
      out += plain(": ");
      out += representation(value);
    }
    if (out.size() == 0) out += plain("{");
    out += plain("}");
  }
  return out;
}

const char* TemplateValue::type_name() const {
  constexpr const char* kNames[] = {"undefined", "none",   "bool", "integer",
                                    "float",     "string", "list", "mapping"};
  return kNames[data.index()];
}

const TemplateValue* TemplateValue::member(std::string_view name) const {
  const ValueDict* members = dict();
  if (members == nullptr) return nullptr;
  for (const auto& [key, value] : *members) {
    if (key == name) return &value;
  }
  return nullptr;
}

namespace {

int depth_with(int depth, const TemplateValue& inside) {
  int below = 0;
  if (inside.list() != nullptr) below = inside.list()->depth + 1;
  if (inside.dict() != nullptr) {
    if (inside.dict()->is_namespace) {
      throw UsageError("a namespace inside a list or a mapping");
    }
    below = inside.dict()->depth + 1;
  }
  if (below > kMostContainers) {
    throw UsageError("lists are nested too deeply");
  }
  return std::max(depth, below);
}

}  // namespace

TemplateValue list_value(ValueList list) {
  for (const TemplateValue& value : list) {
    list.depth = depth_with(list.depth, value);
  }
  return std::make_shared<ValueList>(std::move(list));
}

TemplateValue dict_value(ValueDict dict) {
  for (const auto& [name, value] : dict) {
    dict.depth = depth_with(dict.depth, value);
  }
  return std::make_shared<ValueDict>(std::move(dict));
}

void set_member(ValueDict& dict, std::string_view name, TemplateValue value) {
  if (dict.is_namespace) dict.depth = depth_with(dict.depth, value);
  for (auto& [key, old] : dict) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  dict.emplace_back(std::string(name), std::move(value));
}

namespace {

// Lists that share parts are compared as the trees that they stand for, which
// may be far larger than they are.
bool equal_within(const TemplateValue& a, const TemplateValue& b, int& left) {
  if (--left < 0) throw UsageError("a comparison takes too many steps");
  double x = 0, y = 0;
  if (a.number(x) && b.number(y)) return x == y;
  if (a.data.index() != b.data.index()) return false;
  if (a.text() != nullptr) return a.text()->text() == b.text()->text();
  if (const ValueList* list = a.list()) {
    const ValueList& other = *b.list();
    if (list->size() != other.size()) return false;
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (!equal_within((*list)[i], other[i], left)) return false;
    }
    return true;
  }
  if (const ValueDict* dict = a.dict()) {
    if (dict->size() != b.dict()->size()) return false;
    for (const auto& [name, value] : *dict) {
      const TemplateValue* other = b.member(name);
      if (other == nullptr || !equal_within(value, *other, left)) return false;
    }
    return true;
  }
  return true;  // both undefined, or both none
}

TemplateValue from_json_at(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMostContainers) {
    throw UsageError("lists are nested too deeply");
  }
  if (json.is_null()) return None{};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) {
    return text_value(json.get<std::string>(), Author::kUser);
  }
  if (json.is_array()) {
    ValueList list;
    for (const auto& element : json) {
      list.push_back(from_json_at(element, depth + 1));
    }
    return list_value(std::move(list));
  }
  ValueDict dict;
  for (const auto& [name, value] : json.items()) {
    dict.emplace_back(name, from_json_at(value, depth + 1));
  }
  return dict_value(std::move(dict));
}

}  // namespace

bool equal(const TemplateValue& a, const TemplateValue& b) {
  int left = 1'000'000;
  return equal_within(a, b, left);
}

TemplateValue from_json(const nlohmann::ordered_json& json) {
  return from_json_at(json, 0);
}

MarkedText to_json_text(const TemplateValue& value, int indent) {
  MarkedText out;
  append_json(value, indent, 0, out);
  return out;
}

}  // namespace dai::paged
