// SPDX-License-Identifier: Apache-2.0
#pragma once

// Each layer of a decoder by itself, again and again, on the tensors that it
// meets in a forward pass: their sizes, their strides, their values.
//
//   time_layers({.seconds = 0.2}, config, shapes, into);
//
// Runs the parts that the decoder is made of (DecoderParts), without autograd.
// Inputs stay where the last repetition left them, in the smallest cache that
// holds the layer's working set: that is the level a layer is placed under.

#include <c10/core/Device.h>

#include <cstdint>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/decoder/decoder_ops.h"
#include "ch01_intro/placement/placed_layers.h"

namespace dai::intro {

struct LayerTimeOptions {
  at::Device device = at::kCPU;
  double seconds = 0.2;  // for each layer, 5 to 200 repetitions
  std::uint64_t seed = 1234;
  const DecoderOps* ops = &naive_ops();  // LayerShapes::fused says which
};

// Fills in the decoder's name, the shapes and the layers' times. Throws
// std::invalid_argument for ops of the other rung than the shapes name.
void time_layers(const LayerTimeOptions& options, const DecoderConfig& config,
                 const LayerShapes& shapes, LayerMeasurement& into);

// What PyTorch's dispatcher saw in a forward pass of the whole decoder: the
// operations of its matrix products outside attention.
std::int64_t counted_product_flops(const LayerTimeOptions& options,
                                   const DecoderConfig& config,
                                   const LayerShapes& shapes);
// The same out of the layers' shapes.
std::int64_t expected_product_flops(const DecoderConfig& config,
                                    const LayerShapes& shapes);

}  // namespace dai::intro
