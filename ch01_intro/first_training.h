// SPDX-License-Identifier: Apache-2.0
#pragma once

// The training loop that all data parallelism is about:
//
//   a step = `microbatches` microbatches of `microbatch_size` samples. Which
//   samples those are is settled by (seed, step, microbatch id) alone; rank r
//   of W computes the ids [r * M / W, (r + 1) * M / W), a GradientSync makes
//   the mean gradient of all, and every rank takes the same SGD step.
//
// So the number of ranks decides who computes a microbatch and never what is
// computed. With CanonicalSync on CPU the loss curve and the weights are those
// of one rank bit for bit; see canonical_sum.h for the conditions.
//
//   FirstModel model(seed, group.device());
//   NaiveDdp sync(model.parameters(), options.microbatches, &group);
//   TrainingRun run = train_first_model(model, train, sync, &group, options);
//   float last = run.loss[-1].item<float>();
//
// SGD with momentum as PyTorch defines it: v = m v + g, w = w - lr v.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "ch01_intro/fashion_mnist.h"
#include "ch01_intro/first_model.h"
#include "ch01_intro/gradient_sync.h"

namespace dai {
class ProcessGroup;
class Trace;
}  // namespace dai

namespace dai::intro {

struct FirstTrainingOptions {
  std::int64_t steps = 100;
  std::int64_t microbatches = 12;  // a step, over all ranks
  std::int64_t microbatch_size = 64;
  double learning_rate = 0.03;
  double momentum = 0.9;
  std::uint64_t seed = 1234;

  std::string to_string() const;  // all of it, for ranks to compare
};

// Where the time of a step goes. The parts add up to the step.
enum StepPart {
  kData,  // picking samples, converting pixels
  kForward,
  kBackward,
  kWait,  // for the slowest rank
  kWire,  // collectives, with the additions they do themselves
  kAdd,   // additions and copies of our own
  kOptimizer,
  kOther,  // the loop itself
  kStepParts
};
using StepTimes = std::array<double, kStepParts>;  // milliseconds
const char* to_string(StepPart part);
double total_ms(const StepTimes& times);

struct TrainingRun {
  at::Tensor loss;                // [steps], mean over all samples of the step
  StepTimes step_ms{};            // this rank's mean, without the first step
  double first_step_done_us = 0;  // on steady_us()'s clock
};

struct TrainingHooks {
  Trace* trace = nullptr;  // receives the spans of the first 50 steps
  // After each step, outside of all measured times; the loss is that of this
  // rank's first microbatch.
  std::function<void(std::int64_t steps_done, float loss)> after_step = nullptr;
};

// The microbatch ids [first, first + count) of a rank. Throws UsageError that
// names both numbers when `ranks` does not divide `microbatches`.
struct MicrobatchRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
MicrobatchRange microbatches_of_rank(std::int64_t microbatches, int rank,
                                     int ranks);

// Every rank of `group` calls it with a model of equal weights and a `sync`
// for that model and group. A null group: this rank trains alone.
TrainingRun train_first_model(FirstModel& model, const FashionMnist& data,
                              GradientSync& sync, ProcessGroup* group,
                              const FirstTrainingOptions& options,
                              const TrainingHooks& hooks = {});

// How many of the samples [begin, end) get the right label.
std::int64_t count_correct(const FirstModel& model, const FashionMnist& data,
                           std::int64_t begin, std::int64_t end);

// How many bits differ between two float tensors of the same shape. Not "how
// far apart": 0.0 and -0.0 are equal numbers, and one bit apart.
std::int64_t differing_bits(const at::Tensor& a, const at::Tensor& b);

}  // namespace dai::intro
