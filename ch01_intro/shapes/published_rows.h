// SPDX-License-Identifier: Apache-2.0
#pragma once

// What others measured or worked out about shapes, row by row, beside what the
// rules here say. An advisor that disagrees with them is wrong.
//
//   for (const PublishedRow& row : published_rows()) row.ours == row.published
//
// Sources, named in each row: nanoGPT's author on the vocabulary of GPT-2
// (2023), ml-engineering's "SwiGLU-based MLP" (H100, h = 4096), NVIDIA's
// "Matrix Multiplication Background User's Guide", Anthony et al. (2024).

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct PublishedRow {
  std::string source, what;
  std::int64_t published = 0, ours = 0;
};

std::vector<PublishedRow> published_rows();
std::int64_t rows_off(const std::vector<PublishedRow>& rows);

// ml-engineering's table: TFLOP/s of [b s, 4096] x [4096, ffn] on one H100.
struct FfnMeasurement {
  std::int64_t ffn = 0;
  double tflop_per_s = 0;
};
// The 8/3 h that was wanted, then the five fastest near it.
const std::vector<FfnMeasurement>& published_ffn_search();

}  // namespace dai::intro
