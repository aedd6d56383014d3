// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

const char* to_string(Collective what) {
  switch (what) {
    case Collective::kAllReduce:
      return "all_reduce";
    case Collective::kReduce:
      return "reduce";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kReduceScatter:
      return "reduce_scatter";
    case Collective::kGather:
      return "gather";
    case Collective::kScatter:
      return "scatter";
    case Collective::kAllToAll:
      return "all_to_all";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSendReceive:
      return "sendrecv";
  }
  return "unknown";
}

bool reduces(Collective what) {
  return what == Collective::kAllReduce || what == Collective::kReduce ||
         what == Collective::kReduceScatter;
}

}  // namespace dai::hardware
