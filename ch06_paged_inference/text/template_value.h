// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a chat template computes with: Python's values as Jinja shows them.
// Lists and dicts are shared, as in Python: two names may mean one list.

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ch06_paged_inference/text/marked_text.h"

namespace dai::paged {

struct TemplateValue;
// Only namespaces change once they are made, and no container holds one: there
// are no cycles.
struct ValueList : std::vector<TemplateValue> {
  using std::vector<TemplateValue>::vector;
  int depth = 0;  // of containers in it
};
// In the order of insertion, as Python keeps them.
struct ValueDict : std::vector<std::pair<std::string, TemplateValue>> {
  using std::vector<std::pair<std::string, TemplateValue>>::vector;
  int depth = 0;
  bool is_namespace = false;
};

struct Undefined {};
struct None {};

struct TemplateValue {
  std::variant<Undefined, None, bool, std::int64_t, double, MarkedText,
               std::shared_ptr<ValueList>, std::shared_ptr<ValueDict>>
      data;

  TemplateValue() = default;
  template <class T>
  explicit(false) TemplateValue(T value) : data(std::move(value)) {}

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  const ValueList* list() const;  // nullptr: none
  const ValueDict* dict() const;
  const MarkedText* text() const { return get<MarkedText>(); }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  // An integer or a float, with bools as 0 and 1; false: neither.
  bool number(double& value) const;

  bool truth() const;             // Python's bool()
  MarkedText to_text() const;     // Python's str(); undefined is ""
  const char* type_name() const;  // "string", for messages
  // A member by name or a list's element; nullptr: not there.
  const TemplateValue* member(std::string_view name) const;
};

inline TemplateValue text_value(std::string text,
                                Author author = Author::kTemplate) {
  return MarkedText(std::move(text), author);
}
// Throw UsageError for a namespace inside, and for more than 100 containers in
// each other.
TemplateValue list_value(ValueList list);
TemplateValue dict_value(ValueDict dict);
void set_member(ValueDict& dict, std::string_view name, TemplateValue value);

// Python's ==; numbers compare across types, text by its bytes.
bool equal(const TemplateValue& a, const TemplateValue& b);

// Strings become a user's text.
TemplateValue from_json(const nlohmann::ordered_json& json);
// Python's json.dumps(ensure_ascii=False); indent < 0: on one line. Strings
// keep their author.
MarkedText to_json_text(const TemplateValue& value, int indent = -1);

}  // namespace dai::paged
