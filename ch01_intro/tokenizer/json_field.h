// SPDX-License-Identifier: Apache-2.0
#pragma once

// One object of a JSON file whose every member has to be asked for: done()
// refuses those that were not, so that no setting is silently ignored.
//
//   JsonField model(file["model"], "model", "'tokenizer.json'");
//   model.want("byte_fallback", {false});      // anything else is refused
//   const std::string type = model.string("type");
//   model.done();
//
// Throws UsageError of one line: the file, the member's path, what it holds and
// what is wanted. The JSON value outlives the field.

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/strict_json.h"

namespace dai::intro {

class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string name,
            std::string_view where)
      : value_(value), name_(std::move(name)), where_(where) {
    if (!value.is_object()) bad("an object");
    for (const auto& [key, ignored] : value.items()) unread_.push_back(key);
  }

  const nlohmann::json* find(const char* key) {
    std::erase(unread_, key);
    const auto member = value_.find(key);
    return member == value_.end() ? nullptr : &*member;
  }
  const nlohmann::json& get(const char* key) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) refuse(where_, "{}: no \"{}\"", name_, key);
    return *member;
  }
  JsonField object(const char* key) { return {get(key), path(key), where_}; }
  std::string string(const char* key) {
    const nlohmann::json& member = get(key);
    if (!member.is_string()) wrong(key, "a string");
    return member.get<std::string>();
  }
  bool flag(const char* key, bool otherwise) {
    const nlohmann::json* member = find(key);
    if (member == nullptr) return otherwise;
    if (!member->is_boolean()) wrong(key, "true or false");
    return member->get<bool>();
  }
  std::int32_t id(const char* key) { return as_id(get(key), path(key)); }
  std::int32_t as_id(const nlohmann::json& value,
                     const std::string& name) const {
    constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
    if (!value.is_number_unsigned() ||
        value.get<std::uint64_t>() >= static_cast<std::uint64_t>(kMost)) {
      refuse(where_, "{}: {} is no token id", name, printable(value.dump()));
    }
    return value.get<std::int32_t>();
  }
  const nlohmann::json& list(const char* key) {
    const nlohmann::json& member = get(key);
    if (!member.is_array()) wrong(key, "a list");
    return member;
  }
  // Absent, null, or one of the values given.
  void want(const char* key, std::initializer_list<nlohmann::json> accepted) {
    const nlohmann::json* member = find(key);
    if (member == nullptr || member->is_null()) return;
    for (const nlohmann::json& value : accepted) {
      if (*member == value) return;
    }
    refuse(where_, "{}: {} is not supported", path(key),
           printable(member->dump()));
  }
  // For members that have no influence on ids or text.
  void skip(std::initializer_list<const char*> keys) {
    for (const char* key : keys) find(key);
  }
  void done() const {
    if (unread_.empty()) return;
    refuse(where_, "{}: \"{}\" is not supported", name_, unread_.front());
  }
  std::string path(const char* key) const {
    return name_.empty() ? key : name_ + "." + key;
  }
  [[noreturn]] void wrong(const char* key, std::string_view wanted) const {
    refuse(where_, "{}: holds {}, wanted {}", path(key),
           printable(value_.at(key).dump()), wanted);
  }
  [[noreturn]] void bad(std::string_view wanted) const {
    refuse(where_, "{}: holds {}, wanted {}", name_, printable(value_.dump()),
           wanted);
  }
  const std::string& name() const { return name_; }
  std::string_view where() const { return where_; }

 private:
  const nlohmann::json& value_;
  std::string name_;
  std::string_view where_;
  std::vector<std::string> unread_;
};

}  // namespace dai::intro
