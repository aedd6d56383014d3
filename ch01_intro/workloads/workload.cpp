// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/workload.h"

#include <fmt/format.h>

#include "ch01_intro/profile/analytic_flops.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kFloat = 4;  // bytes

void check_size(const char* what, std::int64_t size) {
  if (size < 1) {
    throw UsageError(fmt::format("{} {}: at least 1", what, size));
  }
}

std::int64_t weight_bytes(const DecoderConfig& config) {
  return kFloat * config.parameter_count();
}

std::int64_t kv_bytes_per_token(const DecoderConfig& config) {
  return 2 * kFloat * config.layers * config.kv_heads * config.head_dim();
}

// Of all scores of a sequence the causal mask leaves (seq + 1) / 2 a token.
std::int64_t masked_away(std::int64_t attention_flops, std::int64_t seq) {
  return attention_flops / (2 * seq) * (seq - 1);
}

}  // namespace

std::int64_t saved_floats_per_token(const DecoderConfig& config) {
  const std::int64_t kv = config.kv_heads * config.head_dim();
  const std::int64_t attention = 4 * config.hidden + 2 * kv;
  const std::int64_t feed_forward = 2 * config.hidden + 3 * config.ffn;
  return config.layers * (attention + feed_forward);
}

Workload training_workload(const DecoderConfig& config, std::int64_t batch,
                           std::int64_t seq) {
  check_size("batch", batch);
  check_size("seq", seq);
  const std::int64_t weights = weight_bytes(config);
  const std::int64_t activations =
      kFloat * batch * seq * saved_floats_per_token(config);
  Workload work{.name = "training", .batch = batch, .tokens = batch * seq};
  const StepFlops step = analytic_flops(config, batch, seq);
  const FlopTerm& attention = step.term("attention");
  work.flops =
      step.total() - masked_away(attention.forward + attention.backward, seq);
  // Weights: read by forward and by backward. Gradients: written. AdamW: reads
  // weight, gradient and two moments, writes weight and moments. Activations:
  // written once, read once.
  work.bytes = (2 + 1 + 4 + 3) * weights + 2 * activations;
  work.memory_bytes = 4 * weights + activations;
  return work;
}

Workload prefill_workload(const DecoderConfig& config, std::int64_t batch,
                          std::int64_t seq) {
  check_size("batch", batch);
  check_size("seq", seq);
  Workload work{.name = "prefill", .batch = batch, .tokens = batch * seq};
  const StepFlops step = analytic_flops(config, batch, seq);
  work.flops =
      step.forward() - masked_away(step.term("attention").forward, seq);
  const std::int64_t cache = batch * seq * kv_bytes_per_token(config);
  work.bytes = weight_bytes(config) + cache;
  work.memory_bytes = weight_bytes(config) + cache;
  return work;
}

Workload decode_workload(const DecoderConfig& config, std::int64_t batch,
                         std::int64_t context) {
  check_size("batch", batch);
  check_size("context", context);
  Workload work{.name = "decode", .batch = batch, .tokens = batch};
  // A token's share of the products, and attention over what it sees.
  const StepFlops one = analytic_flops(config, batch, 1);
  const std::int64_t attention = 4 * batch * config.layers * config.heads *
                                 config.head_dim() * (context + 1);
  work.flops = one.forward() - one.term("attention").forward + attention;
  const std::int64_t cache = batch * (context + 1) * kv_bytes_per_token(config);
  work.bytes = weight_bytes(config) + cache;
  work.memory_bytes = weight_bytes(config) + cache;
  return work;
}

}  // namespace dai::intro
