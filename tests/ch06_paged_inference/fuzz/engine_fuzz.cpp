// SPDX-License-Identifier: Apache-2.0
// Any bytes as the choices of an engine's life (engine_life.h): whatever is
// wrong there throws, and an exception that nobody catches is a find.

#include "tests/ch06_paged_inference/support/engine_life.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  dai::paged::Choices choices(std::span(data, size));
  dai::paged::live(choices, 5000);
  return 0;
}
