// SPDX-License-Identifier: Apache-2.0
#pragma once

// Ranks of one node, through memory that all of them map: threads of a process
// or processes. Bytes go through a ring for each pair (copied in, and copied or
// reduced out of it); large buffers may be read and written in place
// (SharedWindow), between processes by cross-memory attach
// (process_vm_readv(2), one copy by the kernel).
//
//   auto ranks = thread_transports(4);           // one for each thread
//   auto mine = connect_shm(rank, size, bootstrap);

#include <memory>
#include <vector>

#include "ch02_hardware/transport/shared_segment.h"
#include "ch02_hardware/transport/stream_transport.h"

namespace dai::hardware {

struct ShmOptions : TransportOptions {
  // False: act as where the kernel forbids cross-memory attach.
  bool cross_memory_attach = true;
};

// Transport r is for the thread that plays rank r.
std::vector<std::unique_ptr<Transport>> thread_transports(
    int ranks, const ShmOptions& options = {});

// Of ranks that have the segment already. Collective.
std::unique_ptr<Transport> transport_on(
    const std::shared_ptr<SharedSegment>& segment, int rank,
    const ShmOptions& options);

// Collective. Throws as SharedSegment::of_processes does.
std::unique_ptr<Transport> connect_shm(int rank, int size,
                                       const Bootstrap& bootstrap,
                                       const ShmOptions& options = {});

}  // namespace dai::hardware
