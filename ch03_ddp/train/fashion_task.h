// SPDX-License-Identifier: Apache-2.0
#pragma once

// Fashion-MNIST for chapter 1's trainer. Which pictures make a microbatch is a
// function of (seed, step, id), as with text: each epoch's order is shuffled
// anew, every other picture of it is mirrored, and no number of ranks occurs.
//
//   FashionTask task(cnn, train, {.microbatches = 4, .samples = 64}, device);
//   Trainer trainer(task, sync, view, &group, options, device);
//   accuracy(cnn, test, &group, device)    // 0 .. 1, equal on every rank
//
// A "token" of the trainer is a picture. Keeps references to network and data.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ch01_intro/fashion_mnist.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/train/fashion_cnn.h"

namespace dai::ddp {

struct FashionTaskOptions {
  std::int64_t microbatches = 4;  // of a step, over all ranks
  std::int64_t samples = 64;      // pictures of a microbatch
  std::uint64_t seed = 1234;
};

class FashionTask : public intro::TrainingTask {
 public:
  FashionTask(const FashionCnn& cnn, const intro::FashionMnist& data,
              const FashionTaskOptions& options, at::Device device);

  std::int64_t tokens_in_step(std::int64_t step) override;
  void load(std::int64_t step, std::int64_t id) override;
  intro::TokenLoss loss() override;
  at::Tensor loaded() const override { return images_; }

 private:
  const FashionCnn& cnn_;
  const intro::FashionMnist& data_;
  const FashionTaskOptions options_;
  const at::Device device_;
  at::Tensor images_, labels_;
};

// The part of the pictures whose class has the largest logit; the ranks share
// them.
double accuracy(const FashionCnn& cnn, const intro::FashionMnist& data,
                ProcessGroup* group, at::Device device);

}  // namespace dai::ddp
