// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/scale_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "common/errors.h"

namespace dai::intro {
namespace {

const std::vector<StateRecipe>& recipes() {
  static const std::vector<StateRecipe> kRecipes = {
      {.name = "fp32",
       .what = "weights 4, gradients 4, moments 4 + 4",
       .parameter = 4,
       .gradient = 4,
       .optimizer = 8,
       .activation = 4},
      {.name = "bf16-16",
       .what = "weights 2, gradients 2, master 4, moments 4 + 4 (ZeRO, K = 12)",
       .parameter = 2,
       .gradient = 2,
       .optimizer = 12,
       .activation = 2},
      {.name = "bf16-18",
       .what =
           "weights 2, gradients 4, master 4, moments 4 + 4 (Megatron bf16)",
       .parameter = 2,
       .gradient = 4,
       .optimizer = 12,
       .activation = 2},
      {.name = "fp16-20",
       .what = "weights 2, gradients 2, master weights 4, master gradients 4, "
               "moments 4 + 4 (Megatron fp16)",
       .parameter = 2,
       .gradient = 2,
       .optimizer = 16,
       .activation = 2}};
  return kRecipes;
}

}  // namespace

StateRecipe state_recipe(const std::string& name) {
  for (const StateRecipe& recipe : recipes()) {
    if (recipe.name == name) return recipe;
  }
  throw UsageError(fmt::format("no recipe {}; there are: {}", name,
                               fmt::join(state_recipe_names(), ", ")));
}

std::vector<std::string> state_recipe_names() {
  std::vector<std::string> names;
  for (const StateRecipe& recipe : recipes()) names.push_back(recipe.name);
  return names;
}

StateBytes state_bytes(const StateRecipe& recipe, std::int64_t parameters) {
  return {.parameters = recipe.parameter * parameters,
          .gradients = recipe.gradient * parameters,
          .optimizer = recipe.optimizer * parameters};
}

double zero_bytes(const StateRecipe& recipe, std::int64_t parameters,
                  std::int64_t ranks, int stage) {
  const auto held = [&](std::int64_t bytes, bool is_cut) {
    return static_cast<double>(bytes) / static_cast<double>(is_cut ? ranks : 1);
  };
  const StateBytes all = state_bytes(recipe, parameters);
  return held(all.optimizer, stage >= 1) + held(all.gradients, stage >= 2) +
         held(all.parameters, stage >= 3);
}

std::int64_t megatron_activation_bytes(const DecoderConfig& config,
                                       std::int64_t batch, std::int64_t seq,
                                       Recompute recompute) {
  const std::int64_t sb = seq * batch;
  std::int64_t layer = 2 * sb * config.hidden;
  if (recompute != Recompute::kBlocks) layer = 34 * sb * config.hidden;
  if (recompute == Recompute::kNothing) layer += 5 * config.heads * seq * sb;
  return config.layers * layer;
}

std::int64_t kv_cache_bytes(const DecoderConfig& config, std::int64_t tokens,
                            std::int64_t element_bytes) {
  const std::int64_t width = config.kv_heads * config.head_dim();
  return 2 * config.layers * width * element_bytes * tokens;
}

double training_flops_per_token(const DecoderConfig& config, std::int64_t seq) {
  constexpr double kPalm = 12;
  return flops_per_token(static_cast<double>(config.parameter_count()),
                         static_cast<double>(config.layers),
                         static_cast<double>(config.hidden),
                         static_cast<double>(seq), kPalm);
}

double device_days(double flops, double peak_flops, double mfu) {
  constexpr double kSecondsADay = 86400;
  return flops / (peak_flops * mfu) / kSecondsADay;
}

std::int64_t devices_for(std::int64_t bytes, double device_gb) {
  return static_cast<std::int64_t>(
      std::ceil(static_cast<double>(bytes) / (device_gb * 1e9)));
}

}  // namespace dai::intro
