// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tile and wave quantisation (NVIDIA: Matrix Multiplication Background; Anthony
// et al.: The Case for Co-Designing Model Architectures with Hardware, 2024).
// A GPU cuts the result of a product into tiles and works on as many at a time
// as it has SMs; a tile that sticks out of the matrix and an SM without a tile
// cost as much as useful ones.
//
//   waves            = ceil(tiles / SMs)
//   tile efficiency  = m n / (tiles x area of a tile)
//   wave efficiency  = tiles / (waves x SMs)
//
//   Quantization q = quantize({.m = 1792, .n = 1793}, named_gpu("A100"),
//                             {256, 128});
//   q.tiles, q.waves;                // 120, 2: one column more, twice the time
//
// It is a model of counting: which tile a library takes is its own choice, and
// blocks of one SM may share it. Torch-free.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/shapes/gpu_table.h"

namespace dai::intro {

struct MatmulDims {
  std::string name;           // "mlp.gate_proj"
  std::int64_t m = 0, n = 0;  // of the result
  std::int64_t k = 1;         // summed over
  std::int64_t batch = 1;     // independent products in one call
  std::int64_t count = 1;     // such calls in a forward pass

  double flops() const;  // all calls
};

struct Quantization {
  Tile tile;
  std::int64_t tiles = 0, waves = 0;
  double tile_efficiency = 0, wave_efficiency = 0;

  double efficiency() const { return tile_efficiency * wave_efficiency; }
};

// Throws std::invalid_argument for sizes below 1.
Quantization quantize(const MatmulDims& matmul, const GpuModel& gpu, Tile tile);
// With the one of the two most efficient tiles, 256 x 128 and 128 x 256, that
// wastes less.
Quantization quantize(const MatmulDims& matmul, const GpuModel& gpu);

// Useful operations / operations that tiles and waves have room for, over all
// products.
double efficiency(const std::vector<MatmulDims>& matmuls, const GpuModel& gpu);

std::int64_t ceil_div(std::int64_t a, std::int64_t b);
std::int64_t round_up(std::int64_t value, std::int64_t multiple);
// The largest power of two that divides value.
std::int64_t power_of_two_in(std::int64_t value);

}  // namespace dai::intro
