// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <functional>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/statistics/statistics.h"
#include "ch01_intro/sync/step_clock.h"
#include "ch01_intro/trainer/adamw.h"
#include "ch01_intro/workloads/kv_cache.h"
#include "common/errors.h"

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

}  // namespace

ThreeWorkloads measure_three_workloads(const ThreeWorkloadsOptions& options,
                                       const Roofline& roofline,
                                       at::Device device) {
  if (options.serve.empty()) {
    throw UsageError("three workloads: no batch to serve");
  }
  ThreeWorkloads all{.config = options.config,
                     .seq = options.seq,
                     // In the middle of the measured tokens.
                     .context = options.seq + options.decode_steps / 2,
                     .roofline = roofline};
  all.add("training", options.batch, training_seconds(options, device));
  for (const std::int64_t batch : options.serve) {
    const Generation took = generation_seconds(options, batch, device);
    if (batch == options.serve.front()) {
      all.add("prefill", batch, took.prompt_seconds);
    }
    all.add("decode", batch, took.token_seconds);
  }
  return all;
}

}  // namespace dai::intro
