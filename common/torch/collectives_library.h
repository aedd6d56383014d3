// SPDX-License-Identifier: Apache-2.0
#pragma once

// What chapter 2's collectives offer to every app as `--backend dai`, as
// mpi_library.h does for MPI: they live in libdai_collectives.so, opened when
// that is asked for, so that common depends on no chapter.
//
//   const auto& dai = dai::load_collectives_library();
//   auto made = dai.make_backend(store, options);   // collective

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace dai {

struct CollectivesOptions {
  int rank = 0;
  int size = 1;
  std::string address;  // of this node, as the others reach it
  std::string node;     // ranks that say the same share a node
  std::chrono::milliseconds timeout{60000};
};

struct MadeCollectives {
  c10::intrusive_ptr<::c10d::Backend> backend;
  std::string description;  // "shm", "shm in 2 nodes, tcp across"
};

struct CollectivesLibrary {
  // Looks at DAI_MEDIUM (auto, shm, tcp), DAI_ALGORITHM (all_reduce=ring,...)
  // and DAI_COLLECTIVE_MODEL (a file of ch02_collective_explorer --fit), which
  // are to be equal on all ranks. Throws UsageError for what they do not know.
  void (*check_environment)();
  // Does as they say. Throws std::runtime_error when the ranks do not connect.
  MadeCollectives (*make_backend)(
      const c10::intrusive_ptr<::c10d::Store>& store,
      const CollectivesOptions& options);
};

// The one symbol that libdai_collectives.so exports for dlsym().
extern "C" const CollectivesLibrary* dai_collectives_library();

// Throws Unavailable when the library is not there or does not load.
const CollectivesLibrary& load_collectives_library();

}  // namespace dai
