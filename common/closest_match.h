// SPDX-License-Identifier: Apache-2.0
#pragma once

// For "unknown flag --stpes, did you mean --steps?".

#include <string>
#include <string_view>
#include <vector>

namespace dai {

// The candidate nearest to `word` by Levenshtein's distance, or an empty
// string when none is within a third of its length (at least 1).
std::string closest_match(std::string_view word,
                          const std::vector<std::string>& candidates);

}  // namespace dai
