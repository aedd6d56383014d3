// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/rank0_alone.h"

#include <ATen/ops/full.h>

#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

constexpr double kBeatSeconds = 0.2;

// 1: still at work, 0: done.
bool beat_says(ProcessGroup& group, bool working) {
  at::Tensor word =
      at::full({1}, working ? 1.0f : 0.0f, at::TensorOptions(group.device()));
  group.broadcast(word, /*root=*/0);
  return word.item<float>() != 0;
}

}  // namespace

void on_rank0_alone(ProcessGroup& group,
                    const std::function<void(const Heartbeat&)>& work) {
  if (group.rank() != 0) {
    while (beat_says(group, false)) {
    }
    return;
  }
  WallTimer since_beat;
  work([&] {
    if (since_beat.seconds() < kBeatSeconds) return;
    beat_says(group, true);
    since_beat.restart();
  });
  beat_says(group, false);
}

}  // namespace dai::intro
