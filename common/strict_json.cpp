// SPDX-License-Identifier: Apache-2.0
#include "common/strict_json.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace dai {

using nlohmann::json;

namespace {

// Reads ahead of the real parser and throws at the first thing that is wrong.
// (The parser's own callback could do this in one pass, but it searches the
// whole enclosing object after each inner one: 30 s for 100,000 tensors.)
class StrictCheck : public nlohmann::json_sax<json> {
 public:
  StrictCheck(std::string_view where, int max_depth)
      : where_(where), max_depth_(max_depth) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& key) override {
    if (!keys_.back().insert(key).second) {
      refuse(where_, "JSON key {} occurs twice", printable(key));
    }
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&,
                   const json::exception& error) override {
    // The library's text repeats the offending token, however long it is.
    refuse(where_, "not valid JSON at byte {}{}", byte,
           error.id == 406 ? " (number out of range)" : "");
  }

 private:
  bool open() {
    keys_.emplace_back();
    if (std::cmp_greater(keys_.size(), max_depth_)) {
      refuse(where_, "JSON nested deeper than {} levels", max_depth_);
    }
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::string_view where_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of each open object or array
};

const json& member(const json& object, const char* key,
                   std::string_view where) {
  if (!object.is_object() || !object.contains(key)) {
    refuse(where, "no \"{}\"", key);
  }
  return object[key];
}

[[noreturn]] void wrong_type(const json& value, const char* key,
                             std::string_view wanted, std::string_view where) {
  refuse(where, "\"{}\" holds {}, wanted {}", key, printable(value.dump()),
         wanted);
}

std::int64_t as_count(const json& value, const char* key,
                      std::string_view where) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMax) {
    wrong_type(value, key, "an integer from 0 to 2^63-1", where);
  }
  return value.get<std::int64_t>();
}

}  // namespace

json parse_strict_json(std::string_view text, std::string_view where,
                       int max_depth) {
  StrictCheck check(where, max_depth);
  json::sax_parse(text, &check);
  return json::parse(text);
}

void want_keys(const json& object, std::initializer_list<std::string_view> keys,
               std::string_view where) {
  bool exact = object.is_object() && object.size() == keys.size();
  for (const auto key : keys) exact = exact && object.contains(key);
  if (!exact) {
    refuse(where, "wanted an object of exactly {}", fmt::join(keys, ", "));
  }
}

std::string get_string(const json& object, const char* key,
                       std::string_view where) {
  const json& value = member(object, key, where);
  if (!value.is_string()) wrong_type(value, key, "a string", where);
  return value.get<std::string>();
}

std::int64_t get_count(const json& object, const char* key,
                       std::string_view where) {
  return as_count(member(object, key, where), key, where);
}

std::vector<std::int64_t> get_counts(const json& object, const char* key,
                                     std::string_view where) {
  const json& list = member(object, key, where);
  if (!list.is_array()) wrong_type(list, key, "a list", where);
  std::vector<std::int64_t> counts;
  for (const json& item : list) counts.push_back(as_count(item, key, where));
  return counts;
}

std::map<std::string, std::string> get_strings(const json& object,
                                               const char* key,
                                               std::string_view where) {
  const json& strings = member(object, key, where);
  if (!strings.is_object()) wrong_type(strings, key, "an object", where);
  std::map<std::string, std::string> map;
  for (const auto& [name, value] : strings.items()) {
    if (!value.is_string()) wrong_type(value, key, "strings only", where);
    map[name] = value.get<std::string>();
  }
  return map;
}

std::string printable(std::string_view foreign) {
  constexpr std::size_t kMax = 80;
  const bool cut = foreign.size() > kMax;
  const std::string text =
      json(foreign.substr(0, kMax))
          .dump(-1, ' ', true, json::error_handler_t::replace);
  return cut ? text + "..." : text;
}

}  // namespace dai
