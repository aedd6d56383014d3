// SPDX-License-Identifier: Apache-2.0
#pragma once

// What each layer of a decoder has to do in a forward pass, worked out from
// its shapes alone: operations, exponentials, bytes read and written, and the
// bytes that it touches.
//
//   for (const LayerWork& layer :
//        decoder_layers(decoder_config("bench-9m"), {.batch = 8,
//                       .sequence = 128}))
//     layer.work.flops, layer.work.bytes
//
// With T = batch x sequence tokens, H = hidden, elements of 4 bytes, a layer
// moves (each array once for each pass that an operator makes over it):
//
//   linear      2 T in out operations; T in + in out + T out elements
//   add         T H operations; 3 T H
//   embedding   2 T H, and the token ids; no operation
//   rms_norm    4 T H operations; naive 7 T H (square 2, mean 1, two products
//               of 2 each), fused 2 T H
//   rope        3 elements' operations each; naive 9 (two halves: 2 products
//               of 1 and a sum of 1.5 each, cat 2), fused 2
//   swiglu      2 T F operations, T F exponentials; naive 5 T F, fused 3 T F
//   attention   causal: s (s + 1) / 2 scores a head, 4 head_dim operations and
//               an exponential each; q, k, v and the output once
//   head, loss  the linear, then T V exponentials; naive writes and reads the
//               logits and writes their log-softmax: 3 T V; fused keeps chunks
//               of logits near: 0
//
// A tensor above 32 MiB is written onto fresh pages in every call: the C
// library gives blocks of that size back to the system (Work::fresh_bytes).
//
// Torch-free. A layer is what runs between two tensors that the model names.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/roofline/roofline.h"

namespace dai::intro {

struct LayerShapes {
  std::int64_t batch = 8, sequence = 128;
  bool fused = false;  // which rung of decoder_ops.h
};

struct LayerWork {
  Work work;               // without seconds
  std::int64_t count = 1;  // such layers in the model
  // Of work.flops, those of a matrix product by linear(): what FlopCounter
  // counts outside attention.
  std::int64_t product_flops = 0;
};

// In the order in which a forward pass meets them, one block of all. Throws
// UsageError for a config that its check() refuses or sizes below 1.
std::vector<LayerWork> decoder_layers(const DecoderConfig& config,
                                      const LayerShapes& shapes);

}  // namespace dai::intro
