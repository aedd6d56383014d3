// SPDX-License-Identifier: Apache-2.0
#pragma once

// What follows from the ranks' facts of model and data. Pure functions, like
// judge.h's.

#include <optional>
#include <vector>

#include "ch03_ddp/doctor/model_facts.h"
#include "ch03_ddp/doctor/verdict.h"

namespace dai::ddp {

// "parameter drift", "different initialisation" (already the first check of the
// run differs), "overlapping data", "NaN". Needs the facts of every rank, by
// rank. Of a drift nothing is said before the leaves are there.
std::optional<Verdict> judge_model(const std::vector<const ModelFacts*>& ranks);

}  // namespace dai::ddp
