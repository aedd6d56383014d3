// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/placed_steps.h"

namespace dai::paged {

PlacedStep place_step(const std::string& name, const StepShape& shape,
                      LoadedModel& model, const intro::Roofline& roofline,
                      int repeats) {
  PlacedStep step;
  step.name = name;
  step.work = step_work(model.config(), shape, kValueBytes, kValueBytes);
  step.work.name = name;
  step.ms = measured_step_ms(model.runner(), shape, repeats);
  step.work.seconds = step.ms / 1e3;
  step.placement = roofline.place(step.work);
  step.tokens = static_cast<double>(shape.rows * shape.count);
  return step;
}

std::vector<KvGrowth> kv_growth(const intro::DecoderConfig& config,
                                const std::vector<std::int64_t>& contexts,
                                double ridge) {
  const double token = kv_bytes_per_token(config, kValueBytes);
  std::vector<KvGrowth> growth;
  for (const std::int64_t context : contexts) {
    const auto share = [&](std::int64_t rows) {
      const intro::Work all =
          step_work(config, {.rows = rows, .position = context - 1},
                    kValueBytes, kValueBytes);
      // Read of all positions, written of the newest.
      return static_cast<double>(rows * (context + 1)) * token /
             static_cast<double>(all.bytes);
    };
    growth.push_back({context, static_cast<double>(context) * token, share(1),
                      share(32),
                      compute_bound_batch(config, context, ridge, kValueBytes,
                                          kValueBytes)});
  }
  return growth;
}

}  // namespace dai::paged
