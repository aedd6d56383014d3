// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one link can do, measured as the OSU micro-benchmarks do it:
//
//   latency      ping-pong; half of a round trip
//   bandwidth    a window of 64 messages one way, then one short answer
//   bibandwidth  in both directions at once; a Transport carries one message
//                each way at a time, where OSU has a window of them under way
//   rate         messages per second of a bandwidth run
//
// Rounds: 10000 up to 8 KiB and 1000 beyond for latency, 100 and 20 windows for
// bandwidth, after a tenth of them that do not count ("skip"); scaled by
// `effort`, and ended early when a time limit is reached, on both sides alike.
//
//   PairPerf pair(transport, {.effort = 0.1});
//   const PairTime time = pair.latency(0, 1, 8);   // on all ranks
//
// Collective: ranks other than the two wait. Everybody gets the numbers. A
// message begins with its number and goes on with a pattern: every number and
// the whole of the last message are checked; wrong_bytes() must stay 0.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

struct PairOptions {
  double effort = 1;
  double most_seconds = 2;  // for one measurement
  int window = 64;
};

class PairPerf {
 public:
  PairPerf(Transport& transport, const PairOptions& options);

  // Seconds for one message one way.
  double latency_s(int a, int b, std::size_t bytes);
  // Bytes a second, from a to b.
  double bandwidth(int a, int b, std::size_t bytes);
  // Bytes a second, the sum of both directions.
  double bidirectional_bandwidth(int a, int b, std::size_t bytes);

  std::uint64_t wrong_bytes() const { return wrong_; }

 private:
  void announce(std::size_t bytes);  // on all ranks
  int windows_for(std::size_t bytes) const;
  // What was measured on `from` reaches all ranks.
  double tell_all(int from, double value);
  // Both of a pair go on, or stop, after the same round: `a` decides.
  bool another_round(int a, int b, bool wants);
  void number(std::size_t bytes);        // of the next message that leaves
  void check_number(std::size_t bytes);  // of the one that has come
  void check_pattern(std::size_t bytes);
  void make_room(std::size_t bytes);

  Transport& t_;
  const PairOptions options_;
  std::vector<std::byte> out_, in_;
  std::uint32_t sent_ = 0, received_ = 0;  // messages of this measurement
  std::uint64_t wrong_ = 0;
};

}  // namespace dai::hardware
