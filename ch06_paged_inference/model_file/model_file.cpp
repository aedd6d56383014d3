// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/model_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "common/strict_json.h"

namespace dai::paged {

std::int64_t StoredWeight::stored_row(std::int64_t row) const {
  if (paired_rows == 0) return row;
  const std::int64_t head = row / paired_rows, within = row % paired_rows;
  const std::int64_t half = paired_rows / 2;
  return head * paired_rows + within % half * 2 + within / half;
}

void ModelFile::read(const std::string& name, std::span<float> values) const {
  const StoredWeight weight = stored(name);
  const auto columns = static_cast<std::size_t>(weight.columns);
  if (values.size() != static_cast<std::size_t>(weight.rows) * columns) {
    throw std::invalid_argument(
        fmt::format("{} has {} x {} values, room is for {}", name, weight.rows,
                    weight.columns, values.size()));
  }
  const std::size_t bytes = weight.row_bytes();
  for (std::int64_t row = 0; row < weight.rows; ++row) {
    const auto from = static_cast<std::size_t>(weight.stored_row(row));
    dequantize(
        weight.format, weight.bytes.subspan(from * bytes, bytes),
        values.subspan(static_cast<std::size_t>(row) * columns, columns));
  }
}

void ModelFile::check_weights() const {
  // What follows loops over the layers that a foreign file claims to have.
  if (std::cmp_greater(config().decoder.layers, tensor_count())) {
    refuse(where(), "claims {} layers and has {} tensors",
           config().decoder.layers, tensor_count());
  }
  for (const intro::ParameterShape& wanted : config().decoder.parameters()) {
    const StoredWeight weight = stored(wanted.name);
    const std::int64_t rows = wanted.shape.size() == 1 ? 1 : wanted.shape[0];
    if (weight.rows != rows || weight.columns != wanted.shape.back()) {
      refuse(where(), "{} is [{}, {}], its configuration asks for [{}]",
             wanted.name, weight.rows, weight.columns,
             fmt::join(wanted.shape, ", "));
    }
  }
}

std::size_t ModelFile::stored_bytes() const {
  std::size_t bytes = 0;
  for (const intro::ParameterShape& p : config().decoder.parameters()) {
    bytes += stored(p.name).bytes.size();
  }
  return bytes;
}

std::vector<float> llama3_rope_divisors(const Llama3Scaling& scaling,
                                        std::int64_t head_dim, double theta) {
  const double low_wavelength =
      scaling.original_positions / scaling.low_freq_factor;
  const double high_wavelength =
      scaling.original_positions / scaling.high_freq_factor;
  std::vector<float> divisors;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(
        theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double divisor = 1;
    if (wavelength > low_wavelength) {
      divisor = scaling.factor;
    } else if (wavelength > high_wavelength) {
      // From 1 (keep) to 0 (divide), linear in the number of turns.
      const double keep =
          (scaling.original_positions / wavelength - scaling.low_freq_factor) /
          (scaling.high_freq_factor - scaling.low_freq_factor);
      divisor = 1 / ((1 - keep) / scaling.factor + keep);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

}  // namespace dai::paged
