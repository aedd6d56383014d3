// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same training in several kinds of numbers (recipe.h), in turns; on one
// rank one step of it overflows, which has to come to nothing on all of them.
//
//   const RecipeTable table = compare_recipes(group, corpus, options);
//   table.rows[0]     // fp32, which the others are compared with
//
// Collective.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch03_ddp/numerics/recipe_training.h"

namespace dai::ddp {

struct CompareRecipesOptions {
  ComparedSizes training;
  std::vector<std::string> recipes = {};  // the first is compared with
  std::string sync = "reducer";
  SyncOptions options = {};
  GradScalerOptions scaling = {};
  Overflow overflow = {};
  std::int64_t validation_windows = 240;

  void check(int ranks) const;  // throws UsageError
};

struct RecipeRow {
  std::string name;
  std::vector<double> losses;   // [steps]
  double step_ms = 0;           // median
  std::int64_t wire_bytes = 0;  // of a step, handed to collectives
  double bytes_a_parameter = 0;
  double loss_scale = 1;              // in the end
  std::vector<std::int64_t> skipped;  // steps, on this rank
  double validation_loss = 0;
  std::int64_t ranks_that_skipped_others = 0;  // than rank 0
  std::int64_t not_finite = 0;                 // weights, the most of any rank
  std::int64_t bits_off_rank0 = 0;             // the most of any rank
};

struct RecipeTable {
  std::vector<RecipeRow> rows;

  double gap(const RecipeRow& row) const {  // nats a token
    return row.validation_loss - rows.front().validation_loss;
  }
  std::string to_string() const;
  std::vector<std::pair<std::string, double>> metrics() const;
  nlohmann::ordered_json curves() const;  // for scripts/plot
};

RecipeTable compare_recipes(ProcessGroup& group,
                            const intro::TokenCorpus& corpus,
                            const CompareRecipesOptions& options);

}  // namespace dai::ddp
