// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/tuning/overlap_forecast.h"

#include <algorithm>
#include <numeric>

namespace dai::ddp {
namespace {

struct Span {
  double begin, end;
};

// When backward is where it would be at `time` with an idle wire.
double delayed(double time, const std::vector<Span>& wire, double contention) {
  for (const Span& span : wire) {
    const double missing = time - span.begin;  // of backward, when it begins
    const double length = span.end - span.begin;
    if (missing <= 0) break;
    const double pace = 1 - contention;  // of backward, until the span's end
    time = missing <= pace * length ? span.begin + missing / pace
                                    : time + contention * length;
  }
  return time;
}

}  // namespace

std::vector<std::size_t> BackwardTimetable::ready_order() const {
  std::vector<std::size_t> order(ready_ms.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return ready_ms[a] < ready_ms[b]; });
  return order;
}

double BackwardTimetable::compute_end_ms() const {
  return *std::max_element(ready_ms.begin(), ready_ms.end());
}

OverlapForecast forecast_overlap(const BucketPlan& plan,
                                 const BackwardTimetable& timetable,
                                 const AllReduceMs& milliseconds,
                                 double contention) {
  std::vector<Span> wire;
  double left = 0;  // the bucket before
  double free = 0;  // the wire
  OverlapForecast forecast;
  for (const auto& bucket : plan) {
    double ready = 0, bytes = 0;
    for (const std::size_t parameter : bucket) {
      ready = std::max(ready, timetable.ready_ms[parameter]);
      bytes += static_cast<double>(timetable.bytes[parameter]);
    }
    left = std::max(left, delayed(ready, wire, contention));
    const double begin = std::max(left, free);
    free = begin + milliseconds(bytes);
    wire.push_back({begin, free});
    forecast.wire_ms += free - begin;
  }
  const double compute_end =
      delayed(timetable.compute_end_ms(), wire, contention);
  forecast.end_ms = std::max(free, compute_end);
  forecast.exposed_ms = forecast.end_ms - compute_end;
  double behind = 0;
  for (const Span& span : wire) {
    behind += std::max(0.0, std::min(span.end, compute_end) - span.begin);
  }
  if (forecast.wire_ms > 0) forecast.hidden = behind / forecast.wire_ms;
  return forecast;
}

double fit_contention(const BucketPlan& plan,
                      const BackwardTimetable& timetable,
                      const AllReduceMs& milliseconds, double measured_end_ms) {
  double low = 0, high = kMostContention;
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    const double end =
        forecast_overlap(plan, timetable, milliseconds, middle).end_ms;
    (end < measured_end_ms ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace dai::ddp
