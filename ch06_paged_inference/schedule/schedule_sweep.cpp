// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/schedule_sweep.h"

#include <algorithm>

namespace dai::paged {
namespace {

bool beats(const ServedTrace& a, const ServedTrace& b) {
  const double ttft = a.ttft_ms(99) - b.ttft_ms(99);
  const double tpot = a.tpot_ms(99) - b.tpot_ms(99);
  return ttft <= 0 && tpot <= 0 && (ttft < 0 || tpot < 0);
}

}  // namespace

std::vector<SweepPoint> sweep_schedules(const std::vector<TimedRequest>& trace,
                                        const SweepGrid& grid,
                                        const StepCost& cost) {
  std::vector<SweepPoint> points;
  for (const std::int64_t budget : grid.budgets) {
    for (const std::int64_t sequences : grid.sequences) {
      for (const std::string& policy : grid.policies) {
        VirtualServer server;
        server.scheduler.max_step_tokens = budget;
        server.scheduler.max_sequences = sequences;
        server.policy = policy;
        points.push_back({budget, sequences, policy,
                          serve_continuously(trace, server, cost)});
      }
    }
  }
  for (SweepPoint& p : points) {
    p.frontier =
        std::none_of(points.begin(), points.end(),
                     [&](const SweepPoint& q) { return beats(q.run, p.run); });
  }
  return points;
}

}  // namespace dai::paged
