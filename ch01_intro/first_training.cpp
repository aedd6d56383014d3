// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_training.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "ch01_intro/canonical_sum.h"
#include "ch01_intro/sampler.h"
#include "ch01_intro/step_clock.h"
#include "common/errors.h"
#include "common/torch/process_group.h"
#include "common/trace.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kTracedSteps = 50;
constexpr std::int64_t kTestBatch = 500;

struct Batch {
  at::Tensor images;  // [samples, 784] in [0, 1]
  at::Tensor labels;  // [samples] int64
};

// `sample_of(i)` says which sample stands at place i of the batch.
template <typename SampleOf>
Batch make_batch(const FashionMnist& data, std::int64_t size, at::Device device,
                 SampleOf sample_of) {
  Batch batch{at::empty({size, kImagePixels}, at::kFloat),
              at::empty({size}, at::kLong)};
  float* pixels = batch.images.data_ptr<float>();
  std::int64_t* labels = batch.labels.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t sample = sample_of(i);
    const std::uint8_t* image = data.image(sample);
    for (std::int64_t p = 0; p < kImagePixels; ++p) {
      *pixels++ = image[p] / 255.0f;
    }
    labels[i] = data.labels[sample];
  }
  return {batch.images.to(device), batch.labels.to(device)};
}

// The samples of microbatch `id` of a step: consecutive places of the shuffled
// epochs, counted over all ranks. No rank and no world size in sight.
Batch microbatch_of(const FashionMnist& data, std::int64_t step,
                    std::int64_t id, const FirstTrainingOptions& options,
                    at::Device device) {
  const std::int64_t first =
      (step * options.microbatches + id) * options.microbatch_size;
  return make_batch(data, options.microbatch_size, device, [&](auto i) {
    const std::uint64_t epoch = (first + i) / data.count;
    const std::uint64_t position = (first + i) % data.count;
    return sample_at(options.seed, epoch, position, data.count);
  });
}

class SgdWithMomentum {
 public:
  SgdWithMomentum(std::vector<NamedParameter> parameters, double learning_rate,
                  double momentum)
      : parameters_(std::move(parameters)),
        learning_rate_(learning_rate),
        momentum_(momentum) {
    for (const auto& parameter : parameters_) {
      velocities_.push_back(at::zeros_like(parameter.tensor.detach()));
    }
  }

  void step() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      velocities_[i].mul_(momentum_).add_(parameters_[i].tensor.grad());
      parameters_[i].tensor.sub_(velocities_[i], learning_rate_);
    }
  }

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<at::Tensor> velocities_;
  double learning_rate_;
  double momentum_;
};

}  // namespace

std::string FirstTrainingOptions::to_string() const {
  return fmt::format(
      "steps={} microbatches={} microbatch_size={} lr={} momentum={} seed={}",
      steps, microbatches, microbatch_size, learning_rate, momentum, seed);
}

const char* to_string(StepPart part) {
  static constexpr const char* kNames[kStepParts] = {
      "data", "forward", "backward",  "wait",
      "wire", "add",     "optimizer", "other"};
  return kNames[part];
}

double total_ms(const StepTimes& times) {
  return std::accumulate(times.begin(), times.end(), 0.0);
}

MicrobatchRange microbatches_of_rank(std::int64_t microbatches, int rank,
                                     int ranks) {
  if (microbatches % ranks != 0) {
    throw UsageError(fmt::format(
        "--microbatches {} cannot be shared evenly by {} ranks; give a "
        "multiple of {}",
        microbatches, ranks, ranks));
  }
  const std::int64_t count = microbatches / ranks;
  return {rank * count, count};
}

TrainingRun train_first_model(FirstModel& model, const FashionMnist& data,
                              GradientSync& sync, ProcessGroup* group,
                              const FirstTrainingOptions& options,
                              const TrainingHooks& hooks) {
  const MicrobatchRange mine =
      microbatches_of_rank(options.microbatches, group ? group->rank() : 0,
                           group ? group->size() : 1);
  const at::Device device = model.parameters().front().tensor.device();
  SgdWithMomentum optimizer(model.parameters(), options.learning_rate,
                            options.momentum);
  // [microbatches of this rank, steps]. Summed over the ranks when all is done,
  // so that watching the loss costs no collective a step.
  at::Tensor losses =
      at::zeros({mine.count, options.steps}, at::TensorOptions(device));

  TrainingRun run;
  for (std::int64_t step = 0; step < options.steps; ++step) {
    Trace* const trace = step < kTracedSteps ? hooks.trace : nullptr;
    StepTimes times{};
    StepClock clock(device);
    const auto lap = [&](StepPart part) { times[part] += clock.lap_ms(); };

    sync.begin_step();
    for (std::int64_t k = 0; k < mine.count; ++k) {
      const Microbatch microbatch{mine.first + k, k + 1 == mine.count};
      lap(kOther);
      Batch batch;
      {
        TraceSpan span(trace, "data", "step", {{"microbatch", microbatch.id}});
        batch = microbatch_of(data, step, microbatch.id, options, device);
        lap(kData);
      }
      at::Tensor loss;
      {
        TraceSpan span(trace, "forward", "step");
        sync.before_forward(microbatch);
        loss = model.loss(batch.images, batch.labels);
        lap(kForward);
      }
      {
        TraceSpan span(trace, "backward", "step");
        sync.before_backward(microbatch, loss);
        loss.backward();
        lap(kBackward);
      }
      sync.after_backward(microbatch);
      lap(kAdd);
      losses[k][step].copy_(loss.detach());
    }
    lap(kOther);
    {
      TraceSpan span(trace, "sync", "step");
      const SyncTimes spent = sync.finish_step();
      times[kWait] += spent.wait_ms;
      times[kWire] += spent.wire_ms;
      times[kAdd] += spent.add_ms;
      times[kOther] +=
          clock.lap_ms() - spent.wait_ms - spent.wire_ms - spent.add_ms;
    }
    {
      TraceSpan span(trace, "optimizer", "step");
      optimizer.step();
      lap(kOptimizer);
    }

    if (step == 0) run.first_step_done_us = steady_us();
    // The first step pays for allocations and for code that is paged in.
    if (step > 0 || options.steps == 1) {
      const double measured = std::max<std::int64_t>(options.steps - 1, 1);
      for (int part = 0; part < kStepParts; ++part) {
        run.step_ms[part] += times[part] / measured;
      }
    }
    if (hooks.after_step) {
      hooks.after_step(step + 1, losses[0][step].item<float>());
    }
  }

  run.loss = naive_canonical_sum(losses, group).div(options.microbatches);
  return run;
}

std::int64_t count_correct(const FirstModel& model, const FashionMnist& data,
                           std::int64_t begin, std::int64_t end) {
  const at::NoGradGuard no_grad;
  const at::Device device = model.parameters().front().tensor.device();
  std::int64_t correct = 0;
  for (std::int64_t first = begin; first < end; first += kTestBatch) {
    const Batch batch = make_batch(data, std::min(kTestBatch, end - first),
                                   device, [&](auto i) { return first + i; });
    const at::Tensor guess = model.logits(batch.images).argmax(1);
    correct += guess.eq(batch.labels).sum().item<std::int64_t>();
  }
  return correct;
}

std::int64_t differing_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor left = a.cpu().contiguous(), right = b.cpu().contiguous();
  std::int64_t bits = 0;
  for (std::int64_t i = 0; i < left.numel(); ++i) {
    bits +=
        std::popcount(std::bit_cast<std::uint32_t>(left.data_ptr<float>()[i]) ^
                      std::bit_cast<std::uint32_t>(right.data_ptr<float>()[i]));
  }
  return bits;
}

}  // namespace dai::intro
