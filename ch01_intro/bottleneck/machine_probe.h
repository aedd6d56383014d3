// SPDX-License-Identifier: Apache-2.0
#pragma once

// What does the machine give right now, whatever the job does with it? Three
// fixed pieces of work, a millisecond or two each, run between steps on the
// core that the step used:
//
//   fma     multiply-adds in registers: no cache or neighbour's memory traffic
//           slows it, a lower clock or a busy sibling thread does
//   stream  one pass over 8 MiB that the step before has pushed out: what
//           bandwidth is left for this core
//   random  then loads that each need the one before, over the same 8 MiB:
//           more than an L2 cache, less than an L3. They are fast while the L3
//           keeps what was just read, not while somebody else fills it
//
//   MachineProbe probe;               // allocates and touches 8 MiB
//   MachineProbe::Reading now = probe.read();
//   now.stream_us_per_mb;
//
// Each is the median of five slices: being preempted or stopped in one of them
// changes nothing. One thread. It takes 8 MiB of the job's cache, once a step.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dai::intro {

class MachineProbe {
 public:
  static constexpr std::int64_t kBytes = std::int64_t{8} << 20;

  MachineProbe();

  struct Reading {
    double fma_us = 0;            // a slice
    double random_read_ns = 0;    // a load
    double stream_us_per_mb = 0;  // 1 MB = 10^6 bytes
  };
  Reading read();

  // The order of the random loads: next()[i] is where the one at i leads. One
  // cycle through all cache lines, so no load repeats before all are done.
  const std::vector<std::uint32_t>& next() const { return next_; }
  static constexpr std::size_t kStride = 16;  // elements of a cache line

 private:
  double fma_slice_us();
  double stream_slice_us_per_mb(std::size_t slice);
  double random_slice_ns();

  std::vector<std::uint32_t> next_;
  std::uint32_t at_ = 0;
};

}  // namespace dai::intro
