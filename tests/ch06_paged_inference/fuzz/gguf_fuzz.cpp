// SPDX-License-Identifier: Apache-2.0
// Any bytes as a model file: refused by a UsageError, or every value and weight
// of it can be had.

#include <cstdint>
#include <vector>

#include "ch06_paged_inference/model_file/gguf_model.h"
#include "ch06_paged_inference/text/model_text.h"
#include "common/errors.h"

using namespace dai::paged;

namespace {

template <class F>
void refused_or_done(const F& function) {
  try {
    function();
  } catch (const dai::UsageError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  // The beginning is right, or the fuzzer would look for it for ever.
  std::vector<std::byte> bytes;
  for (const char c : {'G', 'G', 'U', 'F', '\3', '\0', '\0', '\0'}) {
    bytes.push_back(static_cast<std::byte>(c));
  }
  const auto* more = reinterpret_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), more, more + size);
  refused_or_done([&] {
    const GgufFile file = GgufFile::parse(bytes, "'f'");
    for (const auto& [key, value] : file.values()) {
      refused_or_done([&, k = key] { file.texts(k); });
      refused_or_done([&, k = key] { file.integers(k); });
      refused_or_done([&, k = key] { file.number(k); });
      refused_or_done([&, k = key] { file.text(k); });
    }
    for (const auto& [name, tensor] : file.tensors()) {
      std::vector<float> values(tensor.bytes.size() /
                                block_bytes(tensor.format) *
                                block_values(tensor.format));
      dequantize(tensor.format, tensor.bytes, values);
    }
    refused_or_done([&] { gguf_model_config(file); });
    refused_or_done(
        [&] { dai::intro::Tokenizer(gguf_tokenizer_parts(file), "'f'"); });
  });
  return 0;
}
