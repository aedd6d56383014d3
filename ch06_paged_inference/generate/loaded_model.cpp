// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/loaded_model.h"

#include <fmt/format.h>

#include "ch06_paged_inference/model_file/default_model.h"
#include "ch06_paged_inference/model_file/model_file.h"
#include "ch06_paged_inference/runner/paged_attention.h"
#include "common/allocator.h"
#include "common/errors.h"
#include "common/timer.h"
#include "common/torch/device.h"

namespace dai::paged {

void LoadedModelOptions::declare(OptionSet& set) {
  set.add("--model", model,
          "GGUF file, folder with config.json and safetensors, or checkpoint "
          "of ch03_ddp_train; without it SmolLM2-135M-Instruct");
  set.add("--device", device, {"auto", "cpu", "cuda"}, "where to compute");
  set.add("--kv-mib", kv_mib, "memory for keys and values, in MiB", 1, 1 << 20);
  set.add("--kv-dtype", kv_dtype, {"float32", "bfloat16"},
          "of keys and values");
  set.add("--block-size", block_size, "tokens of a block", 1, 1024);
  set.add("--max-length", max_length,
          "tokens of a sequence; 0: as many as the model and memory have", 0);
  set.add("--step-tokens", step_tokens, "most tokens of a step, its budget");
  set.add_flag("--one-row", one_row,
               "one token at a time: slow, and no bit depends on the company");
  set.add_flag("--no-prefix-cache", no_prefix_cache, "share no prefixes");
  set.add_flag("--synchronous", synchronous,
               "plan a step only when the one before is done");
}

LoadedModel::LoadedModel(const LoadedModelOptions& options, const App& app) {
  const WallTimer timer;
  keep_freed_memory();  // every step takes the same again
  const std::filesystem::path path = model_path(options.model);
  const std::unique_ptr<ModelFile> file = open_model(path);
  text_ = std::make_unique<ModelText>(open_model_text(path, app.cache_dir()));
  const ModelConfig& config = file->config();
  if (text_->tokenizer.vocab_size() > config.decoder.vocab_size) {
    throw UsageError(fmt::format(
        "{}: the tokenizer has {} tokens, the model {}", file->where(),
        text_->tokenizer.vocab_size(), config.decoder.vocab_size));
  }
  config_ = config.decoder;
  TorchRunnerOptions run;
  run.block_size = options.block_size;
  run.max_positions = options.max_length;
  run.one_row = options.one_row;
  run.device = choose_device(options.device, app.launch());
  if (options.kv_dtype == "bfloat16") run.kv_dtype = c10::ScalarType::BFloat16;
  const std::int64_t block_bytes =
      PagedKv::bytes_per_token(config.decoder, run.kv_dtype) *
      options.block_size;
  run.kv_blocks = options.kv_blocks > 0 ? options.kv_blocks
                                        : (options.kv_mib << 20) / block_bytes;
  if (run.kv_blocks < 2) {
    throw UsageError(fmt::format(
        "--kv-mib {}: a block of {} tokens takes {:.1f} MiB, two at least are "
        "needed",
        options.kv_mib, options.block_size,
        static_cast<double>(block_bytes) / (1 << 20)));
  }
  runner_ = std::make_unique<TorchRunner>(*file, run);
  EngineOptions engine;
  engine.scheduler.max_step_tokens = options.step_tokens;
  engine.scheduler.context_per_token = runner_->context_per_token();
  engine.scheduler.prefix_caching = !options.no_prefix_cache;
  engine.asynchronous = !options.synchronous;
  engine.seed = app.seed();
  engine.end_ids = text_->stop_ids;
  engine_ = std::make_unique<Engine>(engine, *runner_, &text_->tokenizer);
  description_ = fmt::format(
      "{}: {:.1f} M parameters, {:.0f} MB on disk, {:.0f} MB in float32; "
      "{} blocks of {} tokens ({} KiB each, {}) on {}; ready after {:.1f} s\n",
      path.filename().string(),
      static_cast<double>(config.decoder.parameter_count()) / 1e6,
      static_cast<double>(file->stored_bytes()) / 1e6,
      static_cast<double>(runner_->weight_bytes()) / 1e6, run.kv_blocks,
      options.block_size, block_bytes / 1024, options.kv_dtype,
      describe_device(run.device), timer.seconds());
}

}  // namespace dai::paged
