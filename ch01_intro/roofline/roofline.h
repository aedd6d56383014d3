// SPDX-License-Identifier: Apache-2.0
#pragma once

// The roofline model (Williams, Waterman, Patterson: Roofline, 2009): work
// cannot go faster than the arithmetic units or than the memory that feeds
// them.
//
//   intensity  = operations / bytes moved
//   attainable = min(peak, intensity * bandwidth)
//
// Which bandwidth depends on where the bytes come from: work whose data fits
// into a cache is fed by that cache. So a roofline has one slanted roof for
// each memory level, and work is placed under the roof of the smallest level
// that holds its working set.
//
//   Roofline roofline{.peak_flop_per_s = 8e10,
//                     .levels = {{"L2", 2 << 20, 9e10}, {"DRAM", 0, 1e10}}};
//   Placement p = roofline.place({"mlp.down", flops, bytes, working_set, s});
//   p.slowdown;  // measured time / the roof's time: 1 is perfect
//
// More roofs, where they are known: exponentials cost far more than an
// operation and are counted apart (in softmax and SiLU they are the work); so
// do pages that the system has to find and clear when a tensor of that size is
// written for the first time; and a call of an operator takes some time
// however little it does. The first three keep the same core busy and add up.
//
//   roof = max(operations / peak + exponentials / rate + fresh bytes / rate,
//              bytes / bandwidth, calls x time of a call)
//
// Torch-free; numbers come from measured_bandwidth() and a matrix product.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct MemoryLevel {
  std::string name;             // "L2"
  std::int64_t capacity_bytes;  // usable by this work; 0: without limit
  double bytes_per_s;
};

struct Work {
  std::string name;
  std::int64_t flops = 0;
  std::int64_t bytes = 0;              // read and written, each pass counted
  std::int64_t working_set_bytes = 0;  // that must stay near
  double seconds = 0;                  // measured
  std::int64_t exponentials = 0;
  std::int64_t calls = 0;        // of operators
  std::int64_t fresh_bytes = 0;  // on pages that were not there before
};

// A core's clock is not constant: measured work may beat its roof by this much.
inline constexpr double kClockTolerance = 0.02;

enum class Bound { kCompute, kMemory, kOverhead, kPages };
const char* to_string(Bound bound);

struct Placement {
  std::string level;
  Bound bound{};
  double intensity = 0;        // operations a byte; infinite without bytes
  double roof_flop_per_s = 0;  // attainable
  double flop_per_s = 0;       // attained
  double roof_seconds = 0;
  double slowdown = 0;  // measured / roof; below 1 the roof was measured low
};

struct Roofline {
  double peak_flop_per_s = 0;
  std::vector<MemoryLevel> levels;  // smallest first, the last without limit
  double exponentials_per_s = 0;    // 0: not known, they cost nothing
  double call_seconds = 0;
  double fresh_bytes_per_s = 0;  // 0: not known, likewise

  // Throws std::invalid_argument: no or unsorted levels, a rate that is not
  // positive (or is negative), work without time or with nothing to do.
  Placement place(const Work& work) const;

  // The intensity above which work fed by `level` is bound by compute.
  double ridge(const MemoryLevel& level) const {
    return peak_flop_per_s / level.bytes_per_s;
  }
};

}  // namespace dai::intro
