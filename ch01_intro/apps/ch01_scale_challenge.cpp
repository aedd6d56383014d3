// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/published_figures.h"
#include "ch01_intro/memory_plan/scale_table.h"

#include <fmt/format.h>

#include <cstdlib>

#include "ch01_intro/memory_proof/ledger_tables.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

struct Options {
  ScaleAssumptions assume;
  std::string device_gb = "8,24,80,141";
  // What fits here and is run.
  std::vector<std::string> proofs = {"nano-1m", "small-5m", "bench-9m"};
  std::int64_t batch = 4, seq = 128;
};

void declare(dai::OptionSet& set, Options& options) {
  ScaleAssumptions& assume = options.assume;
  set.add("--recipe", assume.recipe, state_recipe_names(),
          "bytes of state a parameter");
  set.add("--batch", assume.batch, "sequences of a microbatch");
  set.add("--seq", assume.seq, "tokens of a sequence");
  set.add("--tokens", assume.tokens, "tokens to train on");
  set.add("--mfu", assume.mfu, "part of the peak that training reaches");
  set.add("--peak-tflops", assume.peak_tflops, "of one device");
  set.add("--device-gb", options.device_gb, "memory of devices, 1e9 bytes");
  set.preset("smoke", [&] { options.proofs = {"nano-1m"}; });
  set.preset("laptop", [] {});
}

// The formulas against a real step of a decoder that fits.
void prove(dai::App& app, const Options& options, const std::string& model,
           dai::Table& table) {
  const std::int64_t count = decoder_config(model).parameter_count();
  for (const Rung rung : {Rung::kNaive, Rung::kFused}) {
    const PlanSetup setup{decoder_config(model), options.batch, options.seq,
                          rung};
    const MemoryPlan plan = plan_memory(setup);
    const MeasuredStep measured = measure_steps(setup, 2, app.seed(), at::kCPU);
    const auto activations = plan.total(MemoryCategory::kActivations);
    table.add_row({model, to_string(rung), fmt::format("{}", plan.states()),
                   fmt::format("{}", measured.states.total()),
                   fmt::format("{}", activations),
                   fmt::format("{}", measured.activations)});
    const auto named = [&](const char* what) {
      return fmt::format("{} {}: {}", model, to_string(rung), what);
    };
    // The recipe's bytes; AdamW also counts the steps of each tensor.
    const std::int64_t recipe =
        state_bytes(state_recipe("fp32"), count).total() +
        4 * static_cast<std::int64_t>(setup.config.parameters().size());
    const std::int64_t ledger =
        measured.states.total() - measured.states[MemoryCategory::kBuffers];
    app.check(named("|fp32 recipe - ledger| bytes"),
              static_cast<double>(std::abs(recipe - ledger)), 0);
    app.check(named("|states planned - ledger| bytes"),
              static_cast<double>(states_error(plan, measured)), 0);
    app.check(named("activations off by"),
              relative_error(activations, measured.activations), 0.02);
  }
  const DecoderConfig config = decoder_config(model);
  const std::int64_t cache =
      measure_kv_cache(config, options.batch, options.seq);
  const std::int64_t formula =
      kv_cache_bytes(config, options.batch * options.seq, /*float32*/ 4);
  app.check(model + ": |KV cache formula - ledger| bytes",
            static_cast<double>(std::abs(formula - cache)), 0);
}

void run(dai::App& app, Options& options) {
  options.assume.device_gb = parse_device_gb(options.device_gb);
  dai::set_deterministic_threads();
  const std::vector<ScaleRow> rows =
      scale_rows({"bench-9m", "large-730m", "llama-1b", "llama-8b", "llama-70b",
                  "llama-405b"},
                 options.assume);
  app.print("ch01_scale_challenge: what one device cannot hold\n\n" +
            scale_tables(rows, options.assume));
  for (const ScaleRow& row : rows) {
    const std::string& name = row.config.name;
    app.metric(name + "_train_bytes", row.train_bytes());
    app.metric(name + "_serve_bytes", row.serve_bytes());
    app.metric(name + "_device_days", row.device_days);
  }
  app.attach("scale_bytes", scale_json(rows, options.assume));

  dai::Table table({"proof, fp32", "rung", "states planned", "in the ledger",
                    "activations planned", "in the ledger"});
  for (const std::string& model : options.proofs) {
    prove(app, options, model, table);
  }
  app.print("\n" + table.to_string());
  // What fits nowhere here is held to what others printed.
  const auto published = published_figures();
  app.print("\n" + figures_table(published));
  app.check("published figures that differ",
            static_cast<double>(figures_off(published)), 0);
}

int main(int argc, char** argv) {
  Options options;
  const dai::AppSpec spec{
      .name = "ch01_scale_challenge",
      .shows = "bytes, devices and days of decoders from 9M to 405B",
      .example = "scripts/book run ch01_scale_challenge -- --recipe bf16-16",
      .declare = [&](dai::OptionSet& set) { declare(set, options); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
