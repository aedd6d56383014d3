// SPDX-License-Identifier: Apache-2.0
#include "common/torch/own_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>

#include "common/errors.h"

namespace dai {

namespace fs = std::filesystem;

void* own_library_symbol(const std::string& library, const char* symbol,
                         const std::string& absent, LibraryScope scope) {
  // bin/app and tests/test both have it in the sibling folder lib/.
  const fs::path path =
      fs::read_symlink("/proc/self/exe").parent_path() / ".." / "lib" / library;
  if (!fs::exists(path)) throw Unavailable(absent);
  // Never closed: what libraries register in others cannot be taken back.
  void* opened = dlopen(
      path.c_str(),
      RTLD_NOW | (scope == LibraryScope::kGlobal ? RTLD_GLOBAL : RTLD_LOCAL));
  void* entry = opened ? dlsym(opened, symbol) : nullptr;
  if (!entry) {
    throw Unavailable(fmt::format("{} does not load: {}", library, dlerror()));
  }
  return entry;
}

}  // namespace dai
