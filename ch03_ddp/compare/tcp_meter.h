// SPDX-License-Identifier: Apache-2.0
#pragma once

// What this process has really put on the wire, as the kernel's TCP counts it:
// payload of every open TCP connection of the process, Gloo's as well as those
// of chapter 2's collectives. No library is asked, so none can err.
//
//   const std::int64_t before = tcp_bytes_sent();
//   ...                                        // a step
//   tcp_bytes_sent() - before
//
// Bytes sent again after a loss count once. Connections that have been closed
// in between are missing, and what travels through shared memory or over NCCL
// is not TCP. Linux 4.19 (TCP_INFO's tcpi_bytes_sent).

#include <cstdint>

namespace dai::ddp {

// Throws dai::Unavailable where the kernel does not tell.
std::int64_t tcp_bytes_sent();

}  // namespace dai::ddp
