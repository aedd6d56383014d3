// SPDX-License-Identifier: Apache-2.0
#pragma once

// A Llama-style model on disk, whatever form it has: what shape it is of, and
// its weights, asked for by the names of Hugging Face's Llama checkpoints
// (DecoderConfig::parameters() lists them).
//
//   const std::unique_ptr<ModelFile> model = open_model("model.gguf");
//   std::vector<float> w(576 * 576);
//   model->read("model.layers.0.self_attn.q_proj.weight", w);   // float32
//   model->stored("model.layers.0.mlp.up_proj.weight").format;  // Q4_1
//
// Forms: a GGUF file (gguf_model.h), a folder with config.json and safetensors
// (hf_model.h), a checkpoint of chapter 3 (checkpoint_model.h). All are mapped,
// not read: opening costs no more than the headers.
// Errors: UsageError of one line that names the file, for a file that is no
// such model, lacks a weight, has one of another shape, or asks for something
// that is not supported.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch06_paged_inference/model_file/block_format.h"

namespace dai::paged {

struct ModelConfig {
  intro::DecoderConfig decoder;
  // Rotary frequency i of head_dim / 2 is divided by this (Llama 3.1 stretches
  // the slow ones); empty: none is.
  std::vector<float> rope_divisors;
};

// A weight as it lies in the file.
struct StoredWeight {
  BlockFormat format{};
  std::int64_t rows = 0, columns = 0;  // [out, in]; a norm has one row
  std::span<const std::byte> bytes;    // row after row of whole blocks
  // Not 0: rows of each head of so many rows stand in the order of rotary
  // pairs, row 2i + j of the file being row j * head_dim / 2 + i.
  std::int64_t paired_rows = 0;

  std::size_t row_bytes() const {
    return bytes.size() / static_cast<std::size_t>(rows);
  }
  // Where row `row` of the weight stands in the file.
  std::int64_t stored_row(std::int64_t row) const;
};

class ModelFile {
 public:
  virtual ~ModelFile() = default;

  virtual const ModelConfig& config() const = 0;
  virtual StoredWeight stored(const std::string& name) const = 0;
  virtual const std::string& where() const = 0;  // "'model.gguf'"
  virtual std::size_t tensor_count() const = 0;

  // The whole weight in float32, row-major, rows in their own order. Throws
  // std::invalid_argument where `values` has another size.
  void read(const std::string& name, std::span<float> values) const;
  // Every weight that the config asks for is there, with its shape.
  void check_weights() const;
  std::size_t stored_bytes() const;  // of all of them
};

// By what `path` is: a file that begins with "GGUF", a folder with config.json,
// a folder with manifest.json or with step-... folders (the newest whole one).
std::unique_ptr<ModelFile> open_model(const std::filesystem::path& path);

// Llama 3.1's rule for frequencies (Llama 3 herd of models, arXiv:2407.21783,
// as its released code has it): slow ones are divided by `factor`, fast ones
// by 1, those between by something between.
struct Llama3Scaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  double original_positions = 8192;
};
std::vector<float> llama3_rope_divisors(const Llama3Scaling& scaling,
                                        std::int64_t head_dim, double theta);

}  // namespace dai::paged
