// SPDX-License-Identifier: Apache-2.0
#pragma once

// What collectives carry and how they combine it. Names and meaning follow
// NCCL: a sum of bool is "or", a product or minimum "and"; an average of
// integers truncates toward zero.
//
//   DType dtype = dtype_from_name("bfloat16");   // 2 bytes an element
//   check_reduction(dtype, ReduceOp::kAvg);      // throws for bool

#include <cstddef>
#include <cstdint>
#include <string>

namespace dai::hardware {

enum class DType : std::uint8_t {
  kFloat32,
  kFloat64,
  kBFloat16,
  kFloat16,
  kInt32,
  kInt64,
  kBool,  // one byte, 0 or 1
  kInt8,
  kUInt8,
  kInt16,
};
inline constexpr DType kAllDTypes[] = {
    DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16,
    DType::kInt32,   DType::kInt64,   DType::kBool,     DType::kInt8,
    DType::kUInt8,   DType::kInt16};

enum class ReduceOp : std::uint8_t { kSum, kAvg, kMin, kMax, kProduct };
inline constexpr ReduceOp kAllReduceOps[] = {ReduceOp::kSum, ReduceOp::kAvg,
                                             ReduceOp::kMin, ReduceOp::kMax,
                                             ReduceOp::kProduct};

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kBFloat16:
    case DType::kFloat16:
    case DType::kInt16:
      return 2;
    case DType::kBool:
    case DType::kInt8:
    case DType::kUInt8:
      return 1;
    default:
      return 4;
  }
}

const char* to_string(DType dtype);  // "float32"
const char* to_string(ReduceOp op);  // "sum", "avg", "min", "max", "prod"

// Also nccl-tests' "float", "double", "half". Throws UsageError.
DType dtype_from_name(const std::string& name);
ReduceOp reduce_op_from_name(const std::string& name);

// Throws std::invalid_argument for the one pair that means nothing: the
// average of bool.
void check_reduction(DType dtype, ReduceOp op);

}  // namespace dai::hardware
