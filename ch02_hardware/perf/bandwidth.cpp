// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/bandwidth.h"

namespace dai::hardware {

double bus_factor(Collective what, int ranks) {
  const double n = ranks;
  switch (what) {
    case Collective::kAllReduce:
      return 2 * (n - 1) / n;
    case Collective::kAllGather:
    case Collective::kReduceScatter:
    case Collective::kAllToAll:
    case Collective::kGather:
    case Collective::kScatter:
      return (n - 1) / n;
    case Collective::kBroadcast:
    case Collective::kReduce:
    case Collective::kSendReceive:
    case Collective::kBarrier:
      return 1;
  }
  return 1;
}

Bandwidth bandwidth(Collective what, double size, double seconds, int ranks) {
  if (seconds <= 0) return {};
  const double algbw = size / seconds / 1e9;
  return {algbw, algbw * bus_factor(what, ranks)};
}

}  // namespace dai::hardware
