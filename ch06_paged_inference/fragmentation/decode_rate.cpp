// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/fragmentation/decode_rate.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "common/errors.h"
#include "common/timer.h"

namespace dai::paged {

double DecodeTimes::step_ms_of(std::int64_t batch) const {
  const auto at_least = step_ms.lower_bound(batch);
  if (step_ms.size() == 1) return step_ms.begin()->second;
  const auto right = at_least == step_ms.begin() ? std::next(at_least)
                     : at_least == step_ms.end() ? std::prev(at_least)
                                                 : at_least;
  const auto left = std::prev(right);
  const double slope = (right->second - left->second) /
                       static_cast<double>(right->first - left->first);
  return left->second + slope * static_cast<double>(batch - left->first);
}

double DecodeTimes::tokens_per_s(
    const std::vector<std::int64_t>& batches) const {
  double tokens = 0, ms = 0;
  for (const std::int64_t batch : batches) {
    tokens += static_cast<double>(batch);
    ms += step_ms_of(batch);
  }
  return ms > 0 ? tokens / ms * 1e3 : 0;
}

DecodeTimes measure_decode(ModelRunner& runner,
                           const std::vector<std::int64_t>& batches,
                           std::int64_t context, int repeats) {
  const std::int64_t size = runner.block_size();
  const std::int64_t blocks = (context + size - 1) / size;
  const std::int64_t most = *std::max_element(batches.begin(), batches.end());
  if (most * blocks > runner.kv_blocks()) {
    throw UsageError(
        fmt::format("{} sequences of {} tokens need {} blocks, {} "
                    "are there",
                    most, context, most * blocks, runner.kv_blocks()));
  }
  if (context > runner.max_positions()) {
    throw UsageError(fmt::format("{} tokens: the model has {} positions",
                                 context, runner.max_positions()));
  }
  // One context is computed, then copied into everybody's blocks.
  StepPlan fill;
  fill.block_size = size;
  fill.tokens.resize(static_cast<std::size_t>(context));
  for (std::size_t i = 0; i < fill.tokens.size(); ++i) {
    fill.tokens[i] = static_cast<std::int32_t>(
        (i * 7919 + 17) % static_cast<std::size_t>(runner.vocab_size()));
  }
  fill.block_tables.resize(static_cast<std::size_t>(blocks));
  std::iota(fill.block_tables.begin(), fill.block_tables.end(), 0);
  fill.rows = {{.first = 0,
                .count = context,
                .position = 0,
                .table = 0,
                .blocks = blocks}};
  runner.run(fill, {});
  StepPlan decode;
  decode.block_size = size;
  decode.block_tables.resize(static_cast<std::size_t>(most * blocks));
  std::iota(decode.block_tables.begin(), decode.block_tables.end(), 0);
  for (std::int64_t b = blocks; b < most * blocks; ++b) {
    decode.copies.push_back(
        {static_cast<BlockId>(b % blocks), static_cast<BlockId>(b)});
  }
  DecodeTimes times;
  for (const std::int64_t batch : batches) {
    decode.rows.clear();
    decode.tokens.clear();
    for (std::int64_t i = 0; i < batch; ++i) {
      decode.rows.push_back({.sequence = i,
                             .first = i,
                             .count = 1,
                             .position = context - 1,
                             .table = i * blocks,
                             .blocks = blocks,
                             .draws = true});
      decode.tokens.push_back(fill.tokens.back());
    }
    std::vector<float> logits(
        static_cast<std::size_t>(batch * runner.vocab_size()));
    std::vector<double> ms;
    for (int i = 0; i <= repeats; ++i) {  // the first is not counted
      const WallTimer timer;
      runner.run(decode, logits);
      decode.copies.clear();
      if (i > 0) ms.push_back(timer.ms());
    }
    std::nth_element(ms.begin(), ms.begin() + ms.size() / 2, ms.end());
    times.step_ms[batch] = ms[ms.size() / 2];
  }
  return times;
}

}  // namespace dai::paged
