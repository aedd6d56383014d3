// SPDX-License-Identifier: Apache-2.0
#pragma once

// MPI's point to point as a medium: the same algorithms over whatever network
// an MPI knows. MPI moves bytes and nothing else; collectives, checks and
// time-outs are ours. In a shared library of its own (libdai_mpi_transport.so),
// opened when `--medium mpi` asks for it, so that no other run carries MPI.
//
//   const MpiTransportLibrary& mpi = load_mpi_transport_library();  // torch
//   auto transport = mpi.connect(rank, size, nodes, options);
//
// The ranks are those of MPI_COMM_WORLD: start them with mpirun. One thread
// uses it at a time. A rank that dies is MPI's matter: mpirun ends the others.
// After a PeerError MPI may still be reading what was being sent: keep those
// buffers until the process ends.

#include <memory>
#include <string>
#include <vector>

#include "ch02_hardware/transport/stream_transport.h"

namespace dai::hardware {

struct MpiTransportLibrary {
  // Collective; the first call starts MPI, the end of the process finalises
  // it. Throws std::runtime_error when MPI's world is not `rank` of `size`.
  std::unique_ptr<Transport> (*connect)(int rank, int size,
                                        const std::vector<int>& nodes,
                                        const TransportOptions& options);
};

// The one symbol that libdai_mpi_transport.so exports for dlsym().
extern "C" const MpiTransportLibrary* dai_mpi_transport_library();

}  // namespace dai::hardware
