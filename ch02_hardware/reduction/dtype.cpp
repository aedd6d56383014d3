// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/reduction/dtype.h"

#include <fmt/format.h>

#include <stdexcept>

#include "common/errors.h"

namespace dai::hardware {

const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kBool:
      return "bool";
    case DType::kInt8:
      return "int8";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt16:
      return "int16";
  }
  return "unknown";
}

const char* to_string(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kAvg:
      return "avg";
    case ReduceOp::kMin:
      return "min";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kProduct:
      return "prod";
  }
  return "unknown";
}

DType dtype_from_name(const std::string& name) {
  if (name == "float") return DType::kFloat32;
  if (name == "double") return DType::kFloat64;
  if (name == "half") return DType::kFloat16;
  for (const DType dtype : kAllDTypes) {
    if (name == to_string(dtype)) return dtype;
  }
  std::string known;
  for (const DType dtype : kAllDTypes) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", to_string(dtype));
  }
  throw UsageError(fmt::format("type {}: accepted are {}", name, known));
}

ReduceOp reduce_op_from_name(const std::string& name) {
  for (const ReduceOp op : kAllReduceOps) {
    if (name == to_string(op)) return op;
  }
  throw UsageError(fmt::format(
      "reduction {}: accepted are sum, avg, min, max and prod", name));
}

void check_reduction(DType dtype, ReduceOp op) {
  if (dtype == DType::kBool && op == ReduceOp::kAvg) {
    throw std::invalid_argument("bool has no average");
  }
}

}  // namespace dai::hardware
