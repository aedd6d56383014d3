// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/link_probe.h"

#include <ATen/ops/zeros.h>

#include <limits>
#include <vector>

#include "ch01_intro/statistics/statistics.h"
#include "common/timer.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

constexpr int kPings = 5, kMessages = 3;
constexpr std::int64_t kMessageBytes = std::int64_t{256} << 10;

// The time until `to` has answered, each of `count` times; median.
double there_and_back_us(ProcessGroup& group, int to, const at::Tensor& message,
                         at::Tensor answer, int count) {
  std::vector<double> times;
  for (int i = 0; i < count; ++i) {
    const double start = steady_us();
    group.send(message, to);
    group.recv(answer, to);
    times.push_back(steady_us() - start);
  }
  return median(times);
}

void answer_to(ProcessGroup& group, int from, at::Tensor message,
               const at::Tensor& answer, int count) {
  for (int i = 0; i < count; ++i) {
    group.recv(message, from);
    group.send(answer, from);
  }
}

}  // namespace

LinkReading probe_link(ProcessGroup& group) {
  const int ranks = group.size();
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  if (ranks == 1) return {.ping_us = nothing, .us_per_mb = nothing};
  const auto bytes = at::TensorOptions(at::kByte).device(group.device());
  const at::Tensor small = at::zeros({1}, bytes);
  const at::Tensor large = at::zeros({kMessageBytes}, bytes);
  LinkReading mine;
  for (int sender = 0; sender < ranks; ++sender) {
    const int receiver = (sender + 1) % ranks;
    group.barrier();
    if (group.rank() == sender) {
      const at::Tensor answer = at::zeros({1}, bytes);
      mine.ping_us = there_and_back_us(group, receiver, small, answer, kPings);
      mine.us_per_mb =
          there_and_back_us(group, receiver, large, answer, kMessages) * 1e6 /
          static_cast<double>(kMessageBytes);
    } else if (group.rank() == receiver) {
      answer_to(group, sender, at::zeros({1}, bytes), small, kPings);
      answer_to(group, sender, large, small, kMessages);
    }
  }
  return mine;
}

}  // namespace dai::intro
