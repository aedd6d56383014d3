// SPDX-License-Identifier: Apache-2.0
// Any text as a chat template: an error or a text, soon.

#include <cstdint>
#include <string>

#include "ch06_paged_inference/text/chat_template.h"
#include "common/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using namespace dai::paged;
  try {
    const ChatTemplate chat(
        std::string(reinterpret_cast<const char*>(data), size), "'t'");
    chat.render({{"system", " be brief "}, {"user", "a<b>"}, {"tool", ""}});
  } catch (const dai::UsageError&) {
  }
  return 0;
}
