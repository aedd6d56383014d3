// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/ledger_app_options.h"

#include "common/errors.h"

namespace dai::intro {

void LedgerAppOptions::declare(OptionSet& set) {
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m ...");
  set.add("--batch", batch, "sequences a step");
  set.add("--seq", seq, "tokens of a sequence");
  set.add("--steps", steps, "training steps to watch", 2);
  set.add("--rung", rung, {"naive", "fused", "both"},
          "the decoder's operations");
  set.add("--precision", precision, {"fp32", "bf16"},
          "bf16: autocast of matrix products; states stay in float32");
  set.add("--device", device, {"auto", "cpu", "cuda"},
          "where to train; on cuda the caching allocator's counters are read");
  set.add("--module", module,
          "a TorchScript file (torch.jit.save) instead of the decoder, on cpu");
  set.add("--input-shape", input_shape,
          "its inputs, such as 8x128:int64:50257,8x16");
  const auto preset = [&](const char* name, const char* of, std::int64_t rows,
                          std::int64_t tokens, std::int64_t count = 3) {
    set.preset(name, [this, of, rows, tokens, count] {
      model = of;
      batch = rows;
      seq = tokens;
      steps = count;
    });
  };
  preset("smoke", "nano-1m", 4, 64, /*count=*/2);
  preset("laptop", "bench-9m", 8, 128);
  preset("gpu24", "base-110m", 8, 1024);
  preset("gpu80", "large-730m", 8, 1024);
}

void LedgerAppOptions::check() const {
  if (!module.empty() && input_shape.empty()) {
    throw UsageError(
        "--module needs --input-shape, such as 8x128:int64:50257,8x16");
  }
  if (module.empty() && !input_shape.empty()) {
    throw UsageError("--input-shape describes the inputs of --module FILE");
  }
  if (!module.empty() && device == "cuda") {
    throw UsageError("--module is measured on the CPU: --device cuda");
  }
}

std::vector<Rung> LedgerAppOptions::rungs() const {
  if (rung == "both") return {Rung::kNaive, Rung::kFused};
  return {rung_from_string(rung)};
}

PlanSetup LedgerAppOptions::setup(Rung of) const {
  PlanSetup setup{decoder_config(model), batch, seq, of};
  setup.bf16 = precision == "bf16";
  setup.check();
  return setup;
}

}  // namespace dai::intro
