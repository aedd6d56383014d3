// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sizes of a decoder that a GPU likes, and why. The rules are those of
// ml-engineering's "Vector and matrix size divisibility" and of Anthony et
// al.: The Case for Co-Designing Model Architectures with Hardware (2024):
//
//   vocabulary / t      a multiple of 64, fp8 128 (50257 -> 50304)
//   ffn / t             a multiple of 128 bytes (10922 -> 10944)
//   head size h / a     a multiple of 8; 64 or 128 is best
//   b s, h / t          powers of two in them, 64 or more
//   (b a) / t, a / t, kv / t    whole numbers
//   microbatch          so that the last wave of tiles is full
//
// (b microbatch, s sequence, a heads, t tensor-parallel ranks). A size is only
// ever rounded up, so nothing that a tokenizer or a checkpoint has is lost.
//
//   ShapeAdvice advice = advise({.model = decoder_config("llama-8b"),
//                                .batch = 1, .sequence = 2048},
//                               named_gpu("H100"));
//   for (const Advice& row : advice.rows) ...
//   advice.advised, advice.efficiency_now, advice.efficiency_advised
//
// Predicted gains are those of the tile and wave model alone; what alignment
// gains is measured, so the row quotes what was published. Torch-free.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/shapes/quantization.h"

namespace dai::intro {

struct ShapeQuestion {
  DecoderConfig model;
  std::int64_t batch = 1;     // microbatch: sequences in one pass
  std::int64_t sequence = 0;  // tokens of each
  std::int64_t tensor_parallel = 1;
  std::int64_t element_bytes = 2;  // bf16

  std::int64_t alignment(const GpuModel& gpu) const {
    return gpu.alignment_bytes / element_bytes;  // in elements
  }
};

struct Advice {
  std::string dimension;  // "vocabulary"
  std::string now, advised;
  std::string why;
  double predicted_gain = 0;  // of the whole pass, by tiles and waves
  bool changes = false;       // false: fine as it is
  bool must = false;          // without it nothing runs
};

struct ShapeAdvice {
  std::vector<Advice> rows;
  ShapeQuestion advised;  // the question with every change made
  double efficiency_now = 0, efficiency_advised = 0;
};

// The products of a forward pass on one of the tensor-parallel ranks: rows of
// weights are cut for q, k, v, gate, up and head, columns for o and down. A
// size that t does not divide is rounded up, as a padded shard would be.
// Attention's two products are left out: fused kernels tile them on their own.
std::vector<MatmulDims> forward_matmuls(const ShapeQuestion& question);

// Throws UsageError for sizes below 1 or a model that DecoderConfig::check()
// refuses.
ShapeAdvice advise(const ShapeQuestion& question, const GpuModel& gpu);

// The sizes by themselves.
std::int64_t padded_vocabulary(std::int64_t vocabulary,
                               std::int64_t multiple = 64,
                               std::int64_t tensor_parallel = 1);
std::int64_t padded_ffn(std::int64_t ffn, std::int64_t alignment,
                        std::int64_t tensor_parallel = 1);

}  // namespace dai::intro
