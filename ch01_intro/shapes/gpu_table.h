// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a matrix product's shape must fit on named GPUs: the number of
// streaming multiprocessors (SMs), and how many bytes a row should be a
// multiple of for the tensor cores to run at full speed.
//
//   const GpuModel& gpu = named_gpu("H100");  // throws, naming what there is
//   gpu.sms;                                  // 132
//
// Sources: SM counts from NVIDIA's architecture whitepapers and data sheets
// (V100: 80 of 84 on the die; A100: 108 of 128; H100 and H200 SXM: 132 of 144;
// H100 PCIe: 114; B200: 148 over two dies; L4: 58, L40S: 142, RTX 4090: 128,
// RTX 3090: 82, T4: 40, A10: 72). Alignment and tile sizes from NVIDIA's
// "Matrix Multiplication Background User's Guide": 16 bytes up to Volta and
// Turing, 128 bytes on A100; newer ones keep it.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct GpuModel {
  std::string name;
  std::int64_t sms = 0;
  std::int64_t alignment_bytes = 0;  // of m, n and k, as rows of elements
};

const std::vector<GpuModel>& gpus();
// Case and a leading "NVIDIA " do not matter. Throws UsageError that lists all
// names.
const GpuModel& named_gpu(const std::string& name);

// The part of a product's result that one thread block computes on one SM.
struct Tile {
  std::int64_t m = 0, n = 0;
};

// cuBLAS's tile sizes, the most efficient first (a large tile loads each
// operand less often), as the guide lists them.
const std::vector<Tile>& cublas_tiles();

}  // namespace dai::intro
