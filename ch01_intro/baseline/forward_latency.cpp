// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/forward_latency.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/sync/step_clock.h"
#include "ch01_intro/trainer/language_task.h"
#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {

std::vector<LatencyRow> measure_forward_latency(
    const Decoder& decoder, const TokenCorpus& corpus,
    const std::vector<std::int64_t>& batches, const LatencyOptions& options,
    at::Device device) {
  if (batches.empty() || options.samples < 1) {
    throw UsageError("forward latency: at least one batch and one sample");
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> inputs;
  for (const std::int64_t batch : batches) {
    LanguageTask task(decoder, corpus,
                      {.microbatches = 1,
                       .samples = batch,
                       .split = CorpusSplit::kValidation},
                      device);
    task.load(0, 0);
    inputs.push_back(task.inputs().clone());
  }
  constexpr std::int64_t kWarmup = 2;
  std::vector<std::vector<double>> ms(batches.size());
  for (std::int64_t round = 0; round < kWarmup + options.samples; ++round) {
    for (std::size_t i = 0; i < batches.size(); ++i) {
      const Autocast autocast(options.precision, device);
      StepClock clock(device);
      const at::Tensor logits = decoder.logits(inputs[i]);
      const double took = clock.lap_ms();
      if (round >= kWarmup) ms[i].push_back(took);
    }
  }
  std::vector<LatencyRow> rows;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const double p50 = median(ms[i]);
    rows.push_back({.batch = batches[i],
                    .samples = options.samples,
                    .p50_ms = p50,
                    .p99_ms = percentile(ms[i], 99),
                    .tokens_per_s = 1e3 * inputs[i].numel() / p50});
  }
  return rows;
}

std::string latency_table(const std::vector<LatencyRow>& rows) {
  Table table({"forward, batch", "samples", "p50 ms", "p99 ms", "tokens/s"});
  for (const LatencyRow& row : rows) {
    table.add_row({fmt::format("{}", row.batch), fmt::format("{}", row.samples),
                   fmt::format("{:.3f}", row.p50_ms),
                   fmt::format("{:.3f}", row.p99_ms),
                   fmt::format("{:.0f}", row.tokens_per_s)});
  }
  return table.to_string();
}

std::vector<std::pair<std::string, double>> latency_metrics(
    const std::vector<LatencyRow>& rows) {
  std::vector<std::pair<std::string, double>> list;
  for (const LatencyRow& row : rows) {
    const std::string name = fmt::format("forward_batch{}_", row.batch);
    list.emplace_back(name + "p50_ms", row.p50_ms);
    list.emplace_back(name + "p99_ms", row.p99_ms);
  }
  return list;
}

}  // namespace dai::intro
