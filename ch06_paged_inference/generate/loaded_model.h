// SPDX-License-Identifier: Apache-2.0
#pragma once

// A model with its words, in an engine, from the options of an app: what every
// app of this chapter that really computes begins with.
//
//   LoadedModelOptions options;
//   options.declare(set);
//   LoadedModel model(options, app);
//   model.engine().submit(...);

#include <cstdint>
#include <memory>
#include <string>

#include "ch06_paged_inference/engine/engine.h"
#include "ch06_paged_inference/runner/torch_runner.h"
#include "ch06_paged_inference/text/model_text.h"
#include "common/app.h"

namespace dai::paged {

struct LoadedModelOptions {
  std::string model, device = "auto", kv_dtype = "float32";
  std::int64_t kv_mib = 512, block_size = 16, max_length = 0;
  std::int64_t kv_blocks = 0;  // instead of kv_mib; not an option
  std::int64_t step_tokens = 128;
  bool one_row = false, no_prefix_cache = false, synchronous = false;

  void declare(OptionSet& set);
};

class LoadedModel {
 public:
  LoadedModel(const LoadedModelOptions& options, const App& app);

  Engine& engine() { return *engine_; }
  TorchRunner& runner() { return *runner_; }
  const ModelText& text() const { return *text_; }
  const intro::DecoderConfig& config() const { return config_; }
  // "model.gguf: 134.5 M parameters, ...", one line.
  const std::string& description() const { return description_; }

 private:
  std::unique_ptr<ModelText> text_;
  std::unique_ptr<TorchRunner> runner_;
  std::unique_ptr<Engine> engine_;
  intro::DecoderConfig config_;
  std::string description_;
};

}  // namespace dai::paged
