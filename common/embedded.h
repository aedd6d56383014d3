// SPDX-License-Identifier: Apache-2.0
#pragma once

// Text files that CMake's dai_embed() compiled into a library: recorded
// measurements and reference numbers, which a program needs wherever it was
// copied to.
//
//   dai_embed(ch01_baseline reference_nano.json)      # CMakeLists.txt
//
//   DAI_EMBEDDED(reference_nano_json);                // at file scope
//   parse(embedded_reference_nano_json());            // std::string_view
//
// The name is the file's with '_' for all that is no letter or digit.

#include <string_view>

#define DAI_EMBEDDED(name)                        \
  extern const char dai_embedded_##name[];        \
  static std::string_view embedded_##name() {     \
    return std::string_view(dai_embedded_##name); \
  }                                               \
  static_assert(true, "a semicolon belongs here")
