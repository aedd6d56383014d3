// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/numerics/precision_options.h"

#include <fmt/format.h>

namespace dai::ddp {

void PrecisionAppOptions::declare(OptionSet& set) {
  compared.declare(set);
  // The fused operators refuse float16.
  compared.given.ops = &intro::naive_ops();
  for (const Recipe& one : ddp::recipes()) {
    recipes += (recipes.empty() ? "" : ",") + one.name;
  }
  set.add("--recipes", recipes,
          "which, with commas between them; the first is compared with");
  set.add("--sync", sync, sync_names(), "the rung of the ladder");
  set.add("--init-scale", scaling.init_scale, "of the loss, at first");
  set.add("--growth-interval", scaling.growth_interval,
          "good steps before the scale doubles");
  set.add("--overflow-step", overflow_step,
          "in which one rank's gradients are infinite; 0: in none", /*min=*/0);
  set.add("--overflow-rank", overflow_rank, "which; -1: the last one",
          /*min=*/-1);
  set.add("--bucket-mb", bucket_mb, "MiB that close a bucket");
  set.add("--validation-windows", validation_windows,
          "held back, a multiple of the ranks' microbatches");
  set.preset("smoke", [this] {
    compared.set_sizes("nano-1m", 8, 0, 1, 64, 1e-2);
    compared.text_bytes = 1'000'000;
    overflow_step = 5;
    validation_windows = 48;
  });
  set.preset("laptop", [this] {
    compared.set_sizes("nano-1m", 200, 0, 3, 64, 2e-3);
    overflow_step = 100;
  });
  const auto large = [this](const char* of, int microbatches) {
    return [=, this] {
      compared.set_sizes(of, 1000, microbatches, 4, 1024, 6e-4);
      overflow_step = 500;
    };
  };
  set.preset("gpu24", large("small-5m", 12));
  set.preset("gpu80", large("base-110m", 12));
  set.preset("node8x2", large("base-110m", 48));
}

std::string PrecisionAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format(
      "{} recipes={} sync={} init_scale={} growth_interval={} "
      "overflow_step={} overflow_rank={} bucket_mb={} validation_windows={}",
      compared.to_string(seed), recipes, sync, scaling.init_scale,
      scaling.growth_interval, overflow_step, overflow_rank, bucket_mb,
      validation_windows);
}

CompareRecipesOptions PrecisionAppOptions::options(std::uint64_t seed,
                                                   int ranks) const {
  const auto rank =
      static_cast<int>(overflow_rank < 0 ? ranks - 1 : overflow_rank);
  CompareRecipesOptions options{
      .training = compared.sizes(seed),
      .sync = sync,
      .options = {.caps = BucketCaps::of_mib(1, bucket_mb)},
      .scaling = scaling,
      .overflow = {.step = overflow_step - 1, .rank = rank},
      .validation_windows = validation_windows};
  options.recipes = names_in("--recipes", recipes);
  return options;
}

}  // namespace dai::ddp
