// SPDX-License-Identifier: Apache-2.0
#pragma once

// A Llama of a few hundred weights, written in each of the forms that
// open_model() knows, with equal values: reader against reader.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "tests/ch06_paged_inference/support/gguf_writer.h"

namespace dai::paged {

using Weights = std::map<std::string, std::vector<float>>;

intro::DecoderConfig tiny_config();
// Every weight different, every value exact in bfloat16.
Weights tiny_weights(const intro::DecoderConfig& config);

// `half`: bfloat16 instead of float32 for the matrices.
GgufWriter tiny_gguf(const intro::DecoderConfig& config, const Weights& weights,
                     bool half = false);
// In two files with an index where `sharded`.
void write_tiny_hf(const std::filesystem::path& folder,
                   const intro::DecoderConfig& config, const Weights& weights,
                   bool sharded);
std::string tiny_config_json(const intro::DecoderConfig& config);

}  // namespace dai::paged
