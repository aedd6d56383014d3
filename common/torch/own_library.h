// SPDX-License-Identifier: Apache-2.0
#pragma once

// The halves of this repository that not every run needs (CUDA, MPI) are
// shared libraries beside the program, opened when they are asked for.
//
//   void* entry = own_library_symbol("libdai_mpi.so", "dai_mpi_library",
//                                    "this build has no MPI backend");

#include <string>

namespace dai {

enum class LibraryScope { kLocal, kGlobal };  // who may see its symbols

// The address of `symbol` in lib/`library`, opened and never closed. Throws
// Unavailable: `absent` when there is no such file, the loader's words when it
// does not load.
void* own_library_symbol(const std::string& library, const char* symbol,
                         const std::string& absent,
                         LibraryScope scope = LibraryScope::kLocal);

}  // namespace dai
