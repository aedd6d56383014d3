// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a model is that nobody named: what `scripts/book setup` has fetched.

#include <filesystem>
#include <string>

namespace dai::paged {

// `option` itself where it is not empty, else SmolLM2-135M-Instruct in
// .deps/models of the checkout that this program was built in. Throws
// UsageError that says how to get it.
std::filesystem::path model_path(const std::string& option);

}  // namespace dai::paged
