// SPDX-License-Identifier: Apache-2.0
#pragma once

// Was the thread computing, or only there? Wall-clock time cannot say. The
// kernel can: the time that the calling thread had a core, and the time that
// it could have run and waited for one. What is left of the wall clock is
// neither: asleep, waiting for a page, or stopped by a signal.
//
//   ResourceUse before = resource_use();
//   forward_and_backward();
//   ResourceUse spent = resource_use() - before;
//   spent.wall_ms - spent.cpu_ms;      // off the cores
//
// Linux: CLOCK_THREAD_CPUTIME_ID, /proc/thread-self/schedstat (its second
// number), getrusage(RUSAGE_SELF). A reading takes a few microseconds.
// Where schedstat is missing, run_delay_ms is NaN.

namespace dai::intro {

struct ResourceUse {
  double wall_ms = 0;
  double cpu_ms = 0;                // of the calling thread
  double run_delay_ms = 0;          // of the calling thread
  double voluntary_switches = 0;    // of the process
  double involuntary_switches = 0;  // of the process

  ResourceUse& operator+=(const ResourceUse& other);
  friend ResourceUse operator-(const ResourceUse& a, const ResourceUse& b);
};

ResourceUse resource_use();

// Of all cores of the node, by all processes, since the node started. The
// kernel counts it in ticks of some milliseconds. NaN without /proc/stat.
struct NodeUse {
  double busy_ms = 0;
  double total_ms = 0;
};
NodeUse node_use();
// Between two readings, 0 .. 1.
double busy_share(const NodeUse& before, const NodeUse& after);

}  // namespace dai::intro
