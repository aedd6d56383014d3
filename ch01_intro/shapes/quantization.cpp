// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace dai::intro {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return ceil_div(value, multiple) * multiple;
}

std::int64_t power_of_two_in(std::int64_t value) {
  return value & -value;
}

double MatmulDims::flops() const {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) *
         static_cast<double>(k) * static_cast<double>(batch) *
         static_cast<double>(count);
}

Quantization quantize(const MatmulDims& matmul, const GpuModel& gpu,
                      Tile tile) {
  if (matmul.m < 1 || matmul.n < 1 || matmul.k < 1 || matmul.batch < 1 ||
      gpu.sms < 1 || tile.m < 1 || tile.n < 1) {
    throw std::invalid_argument(
        fmt::format("quantize: {} of {} x {} x {}, {} at a time", matmul.name,
                    matmul.m, matmul.n, matmul.k, matmul.batch));
  }
  Quantization q{.tile = tile};
  q.tiles =
      matmul.batch * ceil_div(matmul.m, tile.m) * ceil_div(matmul.n, tile.n);
  q.waves = ceil_div(q.tiles, gpu.sms);
  q.tile_efficiency =
      static_cast<double>(matmul.batch) * static_cast<double>(matmul.m) *
      static_cast<double>(matmul.n) /
      (static_cast<double>(q.tiles) * static_cast<double>(tile.m * tile.n));
  q.wave_efficiency =
      static_cast<double>(q.tiles) / static_cast<double>(q.waves * gpu.sms);
  return q;
}

Quantization quantize(const MatmulDims& matmul, const GpuModel& gpu) {
  const Quantization tall = quantize(matmul, gpu, cublas_tiles()[0]);
  const Quantization wide = quantize(matmul, gpu, cublas_tiles()[1]);
  return wide.efficiency() > tall.efficiency() ? wide : tall;
}

double efficiency(const std::vector<MatmulDims>& matmuls, const GpuModel& gpu) {
  double useful = 0, spent = 0;
  for (const MatmulDims& matmul : matmuls) {
    useful += matmul.flops();
    spent += matmul.flops() / quantize(matmul, gpu).efficiency();
  }
  return useful / spent;
}

}  // namespace dai::intro
