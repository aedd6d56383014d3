// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/unreached.h"

#include <fmt/format.h>

#include <algorithm>

namespace dai::ddp {

using intro::NamedParameter;

std::string first_module_not_reached(
    const std::vector<NamedParameter>& parameters,
    const std::vector<bool>& reached) {
  const auto first = std::find(reached.begin(), reached.end(), false);
  if (first == reached.end()) return "";
  const std::string& name = parameters[first - reached.begin()].name;
  for (std::size_t dot = name.find('.'); dot != std::string::npos;
       dot = name.find('.', dot + 1)) {
    const std::string module = name.substr(0, dot + 1);
    bool any_reached = false;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      any_reached |= reached[i] && parameters[i].name.starts_with(module);
    }
    if (!any_reached) return name.substr(0, dot);
  }
  return name;
}

std::string describe_unreached(const std::vector<NamedParameter>& parameters,
                               const std::vector<bool>& reached) {
  constexpr std::int64_t kNamed = 8;
  const auto missing = std::count(reached.begin(), reached.end(), false);
  if (missing == 0) return "";
  std::string names;
  std::int64_t named = 0;
  for (std::size_t i = 0; i < parameters.size() && named < kNamed; ++i) {
    if (reached[i]) continue;
    names += (named++ ? ", " : "") + parameters[i].name;
  }
  if (missing > kNamed) names += fmt::format(", {} more", missing - kNamed);
  return fmt::format(
      "{} of {} parameters got no gradient: {}; the first module not reached "
      "is {}",
      missing, parameters.size(), names,
      first_module_not_reached(parameters, reached));
}

}  // namespace dai::ddp
