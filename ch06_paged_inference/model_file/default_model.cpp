// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/default_model.h"

#include <fmt/format.h>

#include "common/errors.h"

namespace dai::paged {

namespace fs = std::filesystem;

fs::path model_path(const std::string& option) {
  if (!option.empty()) return option;
  // build/<preset>/bin/APP
  std::error_code error;
  const fs::path exe = fs::read_symlink("/proc/self/exe", error);
  const fs::path root =
      exe.parent_path().parent_path().parent_path().parent_path();
  const fs::path model =
      root / ".deps" / "models" / "smollm2-135m-instruct-q4_1.gguf";
  if (error || !fs::exists(model)) {
    throw UsageError(fmt::format(
        "no model at '{}': `scripts/book setup` fetches it, or give --model",
        model.string()));
  }
  return model;
}

}  // namespace dai::paged
