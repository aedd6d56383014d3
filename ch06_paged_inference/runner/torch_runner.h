// SPDX-License-Identifier: Apache-2.0
#pragma once

// Computes steps with chapter 1's decoder on LibTorch: weights dequantised to
// float32 when they are loaded, attention by gathering blocks. The reference
// that faster runners are held against, on CPU and CUDA.
//
//   const std::unique_ptr<ModelFile> model = open_model("model.gguf");
//   TorchRunner runner(*model, {.kv_blocks = 1024});
//   Engine engine(options, runner, &tokenizer);
//
// With `one_row` every token goes through the model by itself. That is slow,
// and its logits do not depend on what else is in the step: not one bit of an
// answer changes with the company, with chunks, preemption or cached prefixes.
// Otherwise matrix products of another height may round another way.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ch06_paged_inference/engine/model_runner.h"
#include "ch06_paged_inference/model_file/model_file.h"

namespace dai::paged {

struct TorchRunnerOptions {
  std::int64_t kv_blocks = 1024;
  std::int64_t block_size = 16;
  std::int64_t max_positions = 0;                     // 0: the model's
  c10::ScalarType kv_dtype = c10::ScalarType::Float;  // or BFloat16
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  bool one_row = false;
};

class TorchRunner : public ModelRunner {
 public:
  // The file may be closed afterwards.
  TorchRunner(const ModelFile& model, const TorchRunnerOptions& options);
  ~TorchRunner() override;

  std::int64_t vocab_size() const override;
  std::int64_t max_positions() const override;
  std::int64_t kv_blocks() const override { return options_.kv_blocks; }
  std::int64_t block_size() const override { return options_.block_size; }
  void run(const StepPlan& plan, std::span<float> logits) override;

  // Log probabilities of tokens[first], tokens[first + 1], ... each after all
  // before it, in one pass over the whole text: no blocks, no steps, chapter
  // 1's own attention. The naive way, to compare with.
  std::vector<float> naive_logprobs(std::span<const std::int32_t> tokens,
                                    std::int64_t first) const;

  std::int64_t kv_bytes() const;
  // Tokens of context that cost a prompt's token as much time as its own
  // products (SchedulerOptions::context_per_token).
  std::int64_t context_per_token() const;
  std::int64_t weight_bytes() const;  // in memory

 private:
  struct Model;
  void run_together(const StepPlan& plan, std::span<float> logits);
  void run_one_by_one(const StepPlan& plan, std::span<float> logits);

  TorchRunnerOptions options_;
  std::unique_ptr<Model> model_;
};

}  // namespace dai::paged
