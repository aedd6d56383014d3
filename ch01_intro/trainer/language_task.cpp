// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/language_task.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <span>

#include "common/errors.h"

namespace dai::intro {
namespace {

std::span<std::int64_t> elements(const at::Tensor& tensor) {
  return {tensor.data_ptr<std::int64_t>(),
          static_cast<std::size_t>(tensor.numel())};
}

}  // namespace

LanguageTask::LanguageTask(const Decoder& decoder, const TokenCorpus& corpus,
                           const LanguageTaskOptions& options,
                           at::Device device)
    : decoder_(decoder), corpus_(corpus), options_(options), device_(device) {
  const DecoderConfig& config = decoder.config();
  if (corpus.window() > config.max_positions) {
    throw UsageError(
        fmt::format("windows of {} tokens: decoder {} has {} "
                    "positions",
                    corpus.window(), config.name, config.max_positions));
  }
  if (corpus.vocab_size() > config.vocab_size) {
    throw UsageError(fmt::format(
        "a corpus of {} token ids: decoder {} has a vocabulary of {}",
        corpus.vocab_size(), config.name, config.vocab_size));
  }
  if (options.samples < 1 || options.microbatches < 1) {
    throw UsageError(
        fmt::format("{} microbatches of {} windows: at least 1 of each",
                    options.microbatches, options.samples));
  }
}

std::int64_t LanguageTask::tokens_in_step(std::int64_t) {
  return options_.microbatches * options_.samples * corpus_.window();
}

void LanguageTask::load(std::int64_t step, std::int64_t id) {
  // New tensors each time, since a graph that still waits for its backward may
  // hold the last ones; pinned where a device is going to fetch them.
  const auto host =
      at::TensorOptions(at::kLong).pinned_memory(device_.is_cuda());
  const at::Tensor inputs =
      at::empty({options_.samples, corpus_.window()}, host);
  const at::Tensor targets =
      at::empty({options_.samples, corpus_.window()}, host);
  corpus_.fill({.step = step,
                .microbatch = id,
                .microbatches = options_.microbatches,
                .samples = options_.samples,
                .split = options_.split},
               elements(inputs), elements(targets));
  inputs_ = inputs.to(device_);
  targets_ = targets.to(device_);
}

TokenLoss LanguageTask::loss() {
  return {decoder_.loss(inputs_, targets_), targets_.numel()};
}

}  // namespace dai::intro
