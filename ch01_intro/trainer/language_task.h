// SPDX-License-Identifier: Apache-2.0
#pragma once

// Next-token prediction: a decoder, a corpus, and which windows of it make a
// microbatch. Every rank holds the whole corpus and takes from it what (step,
// microbatch id) say.
//
//   LanguageTask task(decoder, corpus, {.microbatches = 12, .samples = 8},
//                     device);
//   Trainer trainer(task, sync, view, &group, options, device);
//
// Keeps references to decoder and corpus. Errors: UsageError when the corpus
// has longer windows than the decoder has positions or token ids that its
// vocabulary does not hold.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/trainer/trainer.h"

namespace dai::intro {

struct LanguageTaskOptions {
  std::int64_t microbatches = 12;  // of a step, over all ranks
  std::int64_t samples = 8;        // windows of a microbatch
  CorpusSplit split = CorpusSplit::kTrain;
};

class LanguageTask : public TrainingTask {
 public:
  LanguageTask(const Decoder& decoder, const TokenCorpus& corpus,
               const LanguageTaskOptions& options, at::Device device);

  std::int64_t tokens_in_step(std::int64_t step) override;
  void load(std::int64_t step, std::int64_t id) override;
  TokenLoss loss() override;
  at::Tensor loaded() const override { return inputs_; }

  // What was loaded last: [samples, window] int64, on the device.
  const at::Tensor& inputs() const { return inputs_; }
  const at::Tensor& targets() const { return targets_; }

 private:
  const Decoder& decoder_;
  const TokenCorpus& corpus_;
  LanguageTaskOptions options_;
  at::Device device_;
  at::Tensor inputs_, targets_;
};

}  // namespace dai::intro
