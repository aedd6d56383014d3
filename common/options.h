// SPDX-License-Identifier: Apache-2.0
#pragma once

// How run_app() fills an app's options: preset, then YAML file, then flags,
// each overriding the one before.

#include "common/app.h"

namespace dai {

// Returns false when --help was asked for and printed. Throws UsageError.
bool parse_options(int argc, char** argv, const AppSpec& spec, App& app);

}  // namespace dai
