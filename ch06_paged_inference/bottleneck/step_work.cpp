// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/step_work.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/embedded.h"

DAI_EMBEDDED(recorded_roofs_json);

namespace dai::paged {
namespace {

// Values of the matrices that a token is multiplied by. The embedding is looked
// up, its tied twin the head is a product.
double matrix_values(const intro::DecoderConfig& c) {
  const auto embedding = static_cast<double>(c.vocab_size * c.hidden);
  return static_cast<double>(c.parameter_count()) -
         (c.tied_embeddings ? 0 : embedding);
}

}  // namespace

double kv_bytes_per_token(const intro::DecoderConfig& c, double kv_bytes) {
  return static_cast<double>(2 * c.layers * c.kv_heads * c.head_dim()) *
         kv_bytes;
}

intro::Work step_work(const intro::DecoderConfig& c, const StepShape& shape,
                      double weight_bytes, double kv_bytes) {
  const auto rows = static_cast<double>(shape.rows);
  const auto count = static_cast<double>(shape.count);
  const auto position = static_cast<double>(shape.position);
  const double tokens = rows * count;
  // A row's tokens look back at position + 1 ... position + count tokens.
  const double looked_at = rows * (count * position + count * (count + 1) / 2);
  // The head works for the last token of a row only.
  const auto head = static_cast<double>(c.vocab_size * c.hidden);
  intro::Work work;
  work.flops =
      std::llround(2 * (matrix_values(c) - head) * tokens + 2 * head * rows +
                   4 * static_cast<double>(c.layers * c.hidden) * looked_at);
  work.bytes = std::llround(matrix_values(c) * weight_bytes +
                            kv_bytes_per_token(c, kv_bytes) *
                                (rows * (position + count) + tokens));
  work.working_set_bytes = work.bytes;
  return work;
}

intro::Roofline recorded_roofline() {
  const auto json = nlohmann::json::parse(embedded_recorded_roofs_json());
  intro::Roofline roofline;
  roofline.peak_flop_per_s = json.at("fp32_flop_per_s");
  roofline.levels = {{json.at("level"), 0, json.at("bytes_per_s")}};
  return roofline;
}

std::int64_t compute_bound_batch(const intro::DecoderConfig& c,
                                 std::int64_t context, double ridge,
                                 double weight_bytes, double kv_bytes) {
  const auto intensity = [&](std::int64_t rows) {
    const intro::Work work = step_work(
        c, {.rows = rows, .position = context - 1}, weight_bytes, kv_bytes);
    return static_cast<double>(work.flops) / static_cast<double>(work.bytes);
  };
  constexpr std::int64_t kMost = 1 << 20;
  if (intensity(kMost) < ridge) return 0;
  std::int64_t low = 0, high = kMost;  // low: below the ridge
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (intensity(middle) < ridge ? low : high) = middle;
  }
  return high;
}

}  // namespace dai::paged
