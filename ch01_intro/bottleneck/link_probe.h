// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a link between two ranks gives, apart from any job: each rank in turn
// pings the next one and sends it 256 KiB, while the others wait.
//
//   LinkReading mine = probe_link(group);   // collective
//   mine.us_per_mb;                         // from this rank to the next
//
// The latency is the median of five round trips, the bandwidth of three
// messages, each with its acknowledgement. One rank alone has no link: NaN.
// Takes ranks times about 2 ms over loopback; errors are the group's.

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

struct LinkReading {
  double ping_us = 0;    // there and back
  double us_per_mb = 0;  // 1 MB = 10^6 bytes
};

LinkReading probe_link(ProcessGroup& group);

}  // namespace dai::intro
