// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/advisor_app_options.h"

namespace dai::intro {

void AdvisorAppOptions::declare(OptionSet& set) {
  set.add("--gpu", gpu, "the GPU to advise for, such as A100");
  set.add("--model", model,
          "a decoder's name; left out: llama-8b with GPT-2's vocabulary of "
          "50257 and an ffn of 8/3 hidden");
  set.add("--hidden", hidden, "instead of the model's; 0: its own", 0);
  set.add("--heads", heads, "likewise", 0);
  set.add("--kv-heads", kv_heads, "likewise", 0);
  set.add("--ffn", ffn, "likewise", 0);
  set.add("--vocab", vocab, "likewise", 0);
  set.add("--batch", batch, "sequences in a microbatch");
  set.add("--seq", sequence, "tokens of each");
  set.add("--tensor-parallel", tensor_parallel, "ranks that share it");
  set.add("--dtype", dtype, {"fp32", "bf16", "both"},
          "of the products measured on this CPU");
  set.add("--threads", threads,
          "that share a product on the CPU; 0: as many as OMP_NUM_THREADS says",
          0);
  set.add("--size", rule.base,
          "about how large the sizes are that are tried on this CPU", 256);
  set.add("--record", record, "write this machine's measurement there");
  set.add("--recorded", recorded,
          "the measurement that --smoke judges; left out: the committed one");
  set.preset("smoke", [this] {
    rule = {.base = 384,
            .other = 128,
            .sizes = 3,
            .rounds = 3,
            .pairs = 7,
            .calls = 1};
  });
}

ShapeQuestion AdvisorAppOptions::question() const {
  DecoderConfig config = decoder_config(model.empty() ? "llama-8b" : model);
  if (model.empty()) {
    config.name = "llama-8b, sizes not rounded";
    config.vocab_size = 50257;
    config.ffn = 8 * config.hidden / 3;
  }
  const auto take = [](std::int64_t given, std::int64_t& size) {
    if (given > 0) size = given;
  };
  take(hidden, config.hidden);
  take(heads, config.heads);
  take(kv_heads, config.kv_heads);
  take(ffn, config.ffn);
  take(vocab, config.vocab_size);
  return {.model = config,
          .batch = batch,
          .sequence = sequence,
          .tensor_parallel = tensor_parallel};
}

}  // namespace dai::intro
