// SPDX-License-Identifier: Apache-2.0
#pragma once

// The other way to a sum that does not depend on its order: make the addition
// exact, and any order will do. Per element, all contributions are put on one
// grid, whose step follows from the largest exponent among them, and added as
// 64-bit integers, which are associative; at the end the sum is rounded to a
// float, once.
//
//   1. all_reduce(max) of an exponent byte for each element
//   2. each contribution becomes an integer: x / 2^(E - bits), nearest even
//   3. all_reduce(sum) of the integers, by any algorithm, in any order
//   4. one rounding to the element's type
//
// With up to 2^h contributions the grid is 2^(62 - h) steps fine below the
// largest one's power of two: a float32 contribution loses bits only where it
// is 2^(38 - h) times smaller than the largest, and the result is more accurate
// than any order of float additions. Infinities and NaNs come out as IEEE 754's
// addition would have it.
//
// Bytes on the wire: (1 + 8) / size of those of an all_reduce, 2.25 times for
// float32, whatever the ranks and their share; CanonicalTree: 1 to 2 times for
// the usual shares, and its additions are those of plain training. Hence the
// tree is the default.
//
//   fixed_point_all_reduce(my_rows, sum, count, DType::kFloat32, microbatches,
//                          transport, algorithm_by_name(..., "ring"));

#include <cstddef>
#include <cstdint>
#include <span>

#include "ch02_hardware/collectives/algorithms.h"

namespace dai::hardware {

// The arithmetic of one element: what naive and real form share by contract.
// E is the biased exponent of a float32, 0 to 255.
std::uint8_t exponent_of(float value);
// `value` on the grid of E for up to `contributions` summands. Needs
// exponent_of(value) <= E.
std::int64_t to_fixed_point(float value, std::uint8_t exponent,
                            std::int64_t contributions);
float from_fixed_point(std::int64_t sum, std::uint8_t exponent,
                       std::int64_t contributions);

// rows: this rank's contributions, [count] each, at least none. output:
// [count], equal bits on all ranks. dtype: float32, bfloat16 or float16;
// std::invalid_argument for others and for contributions (of all ranks
// together) below 1 or beyond 2^20. `sum` carries the integers.
void fixed_point_all_reduce(std::span<const void* const> rows, void* output,
                            std::size_t count, DType dtype,
                            std::int64_t contributions, Transport& transport,
                            const Algorithm& sum);

// The same in the plainest form, of all rows in one place.
void naive_fixed_point_sum(std::span<const void* const> rows, void* output,
                           std::size_t count, DType dtype);

}  // namespace dai::hardware
