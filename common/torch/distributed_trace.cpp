// SPDX-License-Identifier: Apache-2.0
#include "common/torch/distributed_trace.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <map>
#include <mutex>
#include <vector>

#include "common/timer.h"

namespace dai {
namespace {

// The best of these round trips counts; more would only cost start-up.
constexpr int kPings = 16;

class TraceObserver : public CollectiveObserver {
 public:
  explicit TraceObserver(Trace& trace) : trace_(trace) {}

  void on_begin(const CollectiveEvent& event) override {
    std::lock_guard lock(mutex_);
    begun_us_[event.label()] = steady_us();
  }

  void on_end(const CollectiveEvent& event, std::exception_ptr) override {
    const double now_us = steady_us();
    double begin_us = now_us;
    {
      std::lock_guard lock(mutex_);
      if (auto node = begun_us_.extract(event.label()))
        begin_us = node.mapped();
    }
    trace_.complete(event.op, "comm", begin_us, now_us - begin_us,
                    {{"sequence", static_cast<std::int64_t>(event.sequence)},
                     {"bytes", event.bytes},
                     {"what", event.to_string()}});
  }

 private:
  Trace& trace_;
  std::mutex mutex_;
  std::map<std::string, double> begun_us_;
};

}  // namespace

ClockOffset clock_offset_to_rank0(ProcessGroup& group) {
  at::Tensor time = at::zeros(
      {1}, at::TensorOptions().dtype(at::kDouble).device(group.device()));
  if (group.rank() == 0) {
    for (int peer = 1; peer < group.size(); ++peer) {
      for (int ping = 0; ping < kPings; ++ping) {
        group.recv(time, peer);
        time.item<double>();  // on CUDA: the question has really arrived
        time.fill_(steady_us());
        group.send(time, peer);
      }
    }
    return {};
  }
  std::vector<ClockSample> samples(kPings);
  for (ClockSample& sample : samples) {
    sample.send_us = steady_us();
    group.send(time, 0);
    group.recv(time, 0);
    sample.remote_us = time.item<double>();
    sample.receive_us = steady_us();
  }
  return estimate_clock_offset(samples);
}

std::string merged_trace(ProcessGroup& group, const Trace& trace) {
  const std::string own = trace.to_json();  // without the pings that follow
  const ClockOffset offset = clock_offset_to_rank0(group);
  const std::vector<std::string> said =
      group.gather_strings(fmt::format("{:.17g}\n{}", offset.offset_us, own));
  if (group.rank() != 0) return {};
  std::vector<RankTrace> traces;
  for (int rank = 0; rank < group.size(); ++rank) {
    const auto end_of_line = said[rank].find('\n');
    traces.push_back({.rank = rank,
                      .clock_offset_us = std::stod(said[rank]),
                      .json = said[rank].substr(end_of_line + 1)});
  }
  return merge_traces(traces);
}

std::shared_ptr<CollectiveObserver> make_trace_observer(Trace& trace) {
  return std::make_shared<TraceObserver>(trace);
}

}  // namespace dai
