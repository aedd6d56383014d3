// SPDX-License-Identifier: Apache-2.0
#pragma once

// JSON from files that nobody vouches for: whatever is wrong with it ends in a
// UsageError of one line that starts with `where` ("'m.json': tensor \"w\"").
//
//   const auto json = parse_strict_json(text, "'m.json'", 6);
//   want_keys(json, {"schema", "step"}, "'m.json'");
//   const std::int64_t step = get_count(json, "step", "'m.json'");
//
// The plain parser keeps the last of two equal keys, so that two readers of one
// file may see different tensors, and follows any depth of nesting.

#include <fmt/format.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/errors.h"

namespace dai {

// No duplicate keys; at most `max_depth` arrays and objects inside each other:
// {"a": [1]} has depth 2.
nlohmann::json parse_strict_json(std::string_view text, std::string_view where,
                                 int max_depth);

// Is it an object with these keys and no others?
void want_keys(const nlohmann::json& object,
               std::initializer_list<std::string_view> keys,
               std::string_view where);

// A member of an object, which must be there and of that type. A count is an
// integer from 0 to 2^63-1: no sign, no fraction, no exponent.
std::string get_string(const nlohmann::json& object, const char* key,
                       std::string_view where);
std::int64_t get_count(const nlohmann::json& object, const char* key,
                       std::string_view where);
std::vector<std::int64_t> get_counts(const nlohmann::json& object,
                                     const char* key, std::string_view where);
std::map<std::string, std::string> get_strings(const nlohmann::json& object,
                                               const char* key,
                                               std::string_view where);

// Throws UsageError("where: text").
template <class... Args>
[[noreturn]] void refuse(std::string_view where,
                         fmt::format_string<Args...> text, Args&&... args) {
  throw UsageError(fmt::format("{}: {}", where,
                               fmt::format(text, std::forward<Args>(args)...)));
}

// A foreign string made safe for a one-line message: in double quotes, control
// characters and non-ASCII escaped, cut after 80 characters.
std::string printable(std::string_view foreign);

}  // namespace dai
