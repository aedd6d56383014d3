// SPDX-License-Identifier: Apache-2.0

// The inside of libdai_mpi.so: what common/torch/mpi_library.h promises.

#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include "common/torch/mpi/mpi_backend.h"
#include "common/torch/mpi_library.h"

namespace dai {
namespace {

std::string version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string all(text, length);
  return all.substr(0, all.find_first_of(",\n"));
}

bool cuda_aware() {
#ifdef MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

c10::intrusive_ptr<::c10d::Backend> make_backend(int rank, int size,
                                                 const MpiOptions& options) {
  return c10::make_intrusive<MpiBackend>(rank, size, options);
}

}  // namespace

extern "C" const MpiLibrary* dai_mpi_library() {
  static const MpiLibrary library{version, cuda_aware, make_backend};
  return &library;
}

}  // namespace dai
