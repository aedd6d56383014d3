// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <functional>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/step_clock.h"
#include "ch01_intro/trainer/adamw.h"
#include "ch01_intro/workloads/kv_cache.h"
#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {
namespace {

// Which tokens does not matter for the time that they take.
at::Tensor some_tokens(const ThreeWorkloadsOptions& options, std::int64_t batch,
                       std::int64_t seq, at::Device device) {
  at::Tensor ids = at::empty({batch, seq}, at::kLong);
  const std::uint64_t key = stream_key(options.seed, "workload tokens");
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    ids.data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(
        mix64(key ^ mix64(i)) % options.config.vocab_size);
  }
  return ids.to(device);
}

// Median seconds of `pass`, after one that does not count.
double median_seconds(std::int64_t repetitions, at::Device device,
                      const std::function<void()>& pass) {
  std::vector<double> seconds;
  for (std::int64_t i = 0; i <= repetitions; ++i) {
    StepClock clock(device);
    pass();
    const double ms = clock.lap_ms();
    if (i > 0) seconds.push_back(ms / 1e3);
  }
  return median(seconds);
}

double training_seconds(const ThreeWorkloadsOptions& options,
                        at::Device device) {
  DecoderParts parts(
      options.config,
      {.seed = options.seed, .device = device, .ops = options.ops});
  const Decoder decoder(parts);
  WholeParameters view(decoder.parameters());
  AdamW optimizer(view, {});
  const at::Tensor tokens =
      some_tokens(options, options.batch, options.seq, device);
  return median_seconds(options.repetitions, device, [&] {
    for (const NamedParameter& p : decoder.parameters()) {
      at::Tensor leaf = p.tensor;
      leaf.mutable_grad().reset();
    }
    (decoder.loss(tokens, tokens) / tokens.numel()).backward();
    optimizer.step(1e-4);
  });
}

// Fills the cache with the context, then times single tokens.
struct Generation {
  double prompt_seconds = 0;
  double token_seconds = 0;
};
Generation generation_seconds(const ThreeWorkloadsOptions& options,
                              std::int64_t batch, at::Device device) {
  const at::NoGradGuard no_grad;
  KvCache cache(options.config, batch, options.seq + options.decode_steps + 1,
                device);
  CachedParts parts(
      options.config,
      {.seed = options.seed, .device = device, .ops = options.ops}, cache);
  const Decoder decoder(parts);
  const at::Tensor prompt = some_tokens(options, batch, options.seq, device);
  const at::Tensor next = some_tokens(options, batch, 1, device);
  Generation result;
  result.prompt_seconds = median_seconds(options.repetitions, device, [&] {
    cache.clear();
    decoder.logits(prompt);
  });
  result.token_seconds = median_seconds(options.decode_steps, device, [&] {
    decoder.logits(next, cache.length());
  });
  return result;
}

WorkloadRow placed(const Roofline& roofline, Workload work, double seconds) {
  WorkloadRow row{.work = work, .seconds = seconds, .place = {}};
  row.place = roofline.place({.name = work.name,
                              .flops = work.flops,
                              .bytes = work.bytes,
                              .working_set_bytes = work.memory_bytes,
                              .seconds = seconds});
  return row;
}

std::string per_pass(const WorkloadRow& row) {
  return fmt::format("{} x {}", row.work.name, row.work.batch);
}

}  // namespace

ThreeWorkloads measure_three_workloads(const ThreeWorkloadsOptions& options,
                                       const Roofline& roofline,
                                       at::Device device) {
  const DecoderConfig& config = options.config;
  if (options.serve.empty()) {
    throw UsageError("three workloads: no batch to serve");
  }
  ThreeWorkloads all;
  all.rows.push_back(
      placed(roofline, training_workload(config, options.batch, options.seq),
             training_seconds(options, device)));
  for (const std::int64_t batch : options.serve) {
    const Generation took = generation_seconds(options, batch, device);
    if (batch == options.serve.front()) {
      all.rows.push_back(placed(roofline,
                                prefill_workload(config, batch, options.seq),
                                took.prompt_seconds));
    }
    // The context in the middle of the measured tokens.
    const std::int64_t context = options.seq + options.decode_steps / 2;
    all.rows.push_back(placed(roofline, decode_workload(config, batch, context),
                              took.token_seconds));
  }
  return all;
}

std::string ThreeWorkloads::to_table() const {
  Table table({"work x batch", "FLOP/byte", "bound by", "fed by", "roof ms",
               "measured ms", "x roof", "tokens/s", "ms/token", "MiB held"});
  for (const WorkloadRow& row : rows) {
    // What one sequence waits for each of its tokens.
    const double ms_a_token = 1e3 * row.seconds *
                              static_cast<double>(row.work.batch) /
                              static_cast<double>(row.work.tokens);
    table.add_row(
        {per_pass(row), fmt::format("{:.2f}", row.work.intensity()),
         to_string(row.place.bound), row.place.level,
         fmt::format("{:.3f}", 1e3 * row.place.roof_seconds),
         fmt::format("{:.3f}", 1e3 * row.seconds),
         fmt::format("{:.2f}", row.place.slowdown),
         fmt::format("{:.0f}", row.tokens_per_s()),
         fmt::format("{:.3f}", ms_a_token),
         fmt::format("{:.1f}",
                     static_cast<double>(row.work.memory_bytes) / (1 << 20))});
  }
  return table.to_string();
}

nlohmann::ordered_json ThreeWorkloads::to_json() const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const WorkloadRow& row : rows) {
    list.push_back({{"name", row.work.name},
                    {"batch", row.work.batch},
                    {"tokens", row.work.tokens},
                    {"flops", row.work.flops},
                    {"bytes", row.work.bytes},
                    {"memory_bytes", row.work.memory_bytes},
                    {"seconds", row.seconds},
                    {"level", row.place.level},
                    {"bound", to_string(row.place.bound)},
                    {"roof_seconds", row.place.roof_seconds}});
  }
  return list;
}

ThreeWorkloads ThreeWorkloads::from_json(const nlohmann::json& json) {
  ThreeWorkloads all;
  try {
    for (const nlohmann::json& item : json) {
      WorkloadRow row;
      row.work = {.name = item.at("name"),
                  .batch = item.at("batch"),
                  .tokens = item.at("tokens"),
                  .flops = item.at("flops"),
                  .bytes = item.at("bytes"),
                  .memory_bytes = item.at("memory_bytes")};
      row.seconds = item.at("seconds");
      row.place.level = item.at("level");
      row.place.bound = item.at("bound") == to_string(Bound::kCompute)
                            ? Bound::kCompute
                            : Bound::kMemory;
      row.place.intensity = row.work.intensity();
      row.place.roof_seconds = item.at("roof_seconds");
      row.place.slowdown = row.seconds / row.place.roof_seconds;
      all.rows.push_back(row);
    }
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(fmt::format("no list of workloads: {}", error.what()));
  }
  return all;
}

}  // namespace dai::intro
