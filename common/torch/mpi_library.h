// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the MPI half offers to the rest, as cuda_library.h does for CUDA. It
// lives in libdai_mpi.so, which links the system's MPI; load_mpi_library()
// opens it when `--backend mpi` asks for it, so that no other run carries MPI.
//
//   const dai::MpiLibrary& mpi = dai::load_mpi_library();
//   auto backend = mpi.make_backend(rank, size, {.timeout = timeout});

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <string>

namespace c10d {
class Backend;
}  // namespace c10d

namespace dai {

struct MpiOptions {
  std::chrono::milliseconds timeout{60000};  // of each operation
  // Elements in one MPI call, whose counts are ints; more are sent in several.
  std::int64_t most_elements = std::int64_t{1} << 30;
};

struct MpiLibrary {
  // "Open MPI v4.1.4"
  std::string (*version)();
  // Whether this MPI takes pointers to CUDA memory.
  bool (*cuda_aware)();
  // A c10d::Backend over all ranks of MPI's world; collective. The first call
  // starts MPI, the end of the process finalises it. Throws UsageError when
  // MPI's world is another one than `rank` of `size`, std::runtime_error for
  // what MPI reports.
  c10::intrusive_ptr<::c10d::Backend> (*make_backend)(
      int rank, int size, const MpiOptions& options);
};

// The one symbol that libdai_mpi.so exports for dlsym().
extern "C" const MpiLibrary* dai_mpi_library();

// Throws Unavailable when the build found no MPI or the library does not load.
const MpiLibrary& load_mpi_library();

}  // namespace dai
