// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/fashion_task.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <functional>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/sampler.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

using intro::FashionMnist;
using intro::kImageSide;

// Mean and deviation of a training pixel, of 255.
constexpr float kMean = 0.2860f, kDeviation = 0.3530f;

struct Batch {
  at::Tensor images;  // [n, 1, 28, 28] float32
  at::Tensor labels;  // [n] int64
};

struct Picked {
  std::int64_t index = 0;
  bool mirrored = false;
};

Batch take(const FashionMnist& data, std::int64_t n,
           const std::function<Picked(std::int64_t)>& pick, at::Device device) {
  Batch batch{at::empty({n, 1, kImageSide, kImageSide}, at::kFloat),
              at::empty({n}, at::kLong)};
  auto* pixel = batch.images.data_ptr<float>();
  for (std::int64_t i = 0; i < n; ++i) {
    const auto [index, mirrored] = pick(i);
    const std::uint8_t* const image = data.image(index);
    for (std::int64_t y = 0; y < kImageSide; ++y) {
      for (std::int64_t x = 0; x < kImageSide; ++x) {
        const std::int64_t from = mirrored ? kImageSide - 1 - x : x;
        const float grey =
            static_cast<float>(image[y * kImageSide + from]) / 255;
        *pixel++ = (grey - kMean) / kDeviation;
      }
    }
    batch.labels.data_ptr<std::int64_t>()[i] = data.labels[index];
  }
  return {batch.images.to(device), batch.labels.to(device)};
}

}  // namespace

FashionTask::FashionTask(const FashionCnn& cnn, const FashionMnist& data,
                         const FashionTaskOptions& options, at::Device device)
    : cnn_(cnn), data_(data), options_(options), device_(device) {}

std::int64_t FashionTask::tokens_in_step(std::int64_t) {
  return options_.microbatches * options_.samples;
}

void FashionTask::load(std::int64_t step, std::int64_t id) {
  const std::uint64_t mirrors = intro::stream_key(options_.seed, "mirror");
  const std::int64_t first =
      (step * options_.microbatches + id) * options_.samples;
  const Batch batch = take(
      data_, options_.samples,
      [&](std::int64_t i) {
        const std::int64_t at = first + i;
        return Picked{static_cast<std::int64_t>(
                          intro::sample_at(options_.seed, at / data_.count,
                                           at % data_.count, data_.count)),
                      intro::uniform01(mirrors, at) < 0.5};
      },
      device_);
  images_ = batch.images;
  labels_ = batch.labels;
}

intro::TokenLoss FashionTask::loss() {
  return {at::cross_entropy_loss(cnn_.forward(images_), labels_, /*weight=*/{},
                                 at::Reduction::Sum)
              .to(at::kFloat),
          options_.samples};
}

double accuracy(const FashionCnn& cnn, const FashionMnist& data,
                ProcessGroup* group, at::Device device) {
  constexpr std::int64_t kBatch = 500;
  const at::NoGradGuard no_grad;
  const std::int64_t rank = group ? group->rank() : 0;
  const std::int64_t ranks = group ? group->size() : 1;
  const std::int64_t end = data.count * (rank + 1) / ranks;
  std::int64_t right = 0;
  for (std::int64_t at = data.count * rank / ranks; at < end; at += kBatch) {
    const Batch batch = take(
        data, std::min(kBatch, end - at),
        [&](std::int64_t i) { return Picked{at + i}; }, device);
    right += (cnn.forward(batch.images).argmax(1) == batch.labels)
                 .sum()
                 .item<std::int64_t>();
  }
  at::Tensor all =
      at::full({1}, right, at::TensorOptions(device).dtype(at::kLong));
  if (group) group->all_reduce(all);
  return static_cast<double>(all.item<std::int64_t>()) /
         static_cast<double>(data.count);
}

}  // namespace dai::ddp
