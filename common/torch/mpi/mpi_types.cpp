// SPDX-License-Identifier: Apache-2.0
#include "common/torch/mpi/mpi_types.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace dai {
namespace {

using Op = ::c10d::ReduceOp::RedOpType;

// The body of an MPI reduction for elements that MPI has no type for.
template <typename T, typename Combine>
void combine_all(void* in, void* inout, int* count, MPI_Datatype*) {
  const T* a = static_cast<const T*>(in);
  T* b = static_cast<T*>(inout);
  for (int i = 0; i < *count; ++i) b[i] = Combine()(a[i], b[i]);
}

struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<float>(a) + static_cast<float>(b));
  }
};
struct Multiply {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<float>(a) * static_cast<float>(b));
  }
};
// Not a number wins, as in PyTorch.
struct Least {
  template <typename T>
  T operator()(T a, T b) const {
    return a != a || a < b ? a : b;
  }
};
struct Most {
  template <typename T>
  T operator()(T a, T b) const {
    return a != a || a > b ? a : b;
  }
};
struct Or {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return (a != 0) | (b != 0);
  }
};
struct And {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return (a != 0) & (b != 0);
  }
};
struct Xor {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return (a != 0) ^ (b != 0);
  }
};

MPI_User_function* bool_function(Op op) {
  switch (op) {
    case Op::SUM:
    case Op::MAX:
    case Op::BOR:
      return combine_all<std::uint8_t, Or>;
    case Op::PRODUCT:
    case Op::MIN:
    case Op::BAND:
      return combine_all<std::uint8_t, And>;
    case Op::BXOR:
      return combine_all<std::uint8_t, Xor>;
    default:
      return nullptr;
  }
}

template <typename T>
MPI_User_function* small_float_function(Op op) {
  switch (op) {
    case Op::SUM:
      return combine_all<T, Add>;
    case Op::PRODUCT:
      return combine_all<T, Multiply>;
    case Op::MIN:
      return combine_all<T, Least>;
    case Op::MAX:
      return combine_all<T, Most>;
    default:
      return nullptr;
  }
}

// The operator of ours for a dtype, or null where MPI's own serve.
MPI_User_function* own_function(at::ScalarType dtype, Op op) {
  switch (dtype) {
    case at::kHalf:
      return small_float_function<at::Half>(op);
    case at::kBFloat16:
      return small_float_function<at::BFloat16>(op);
    case at::kBool:
      return bool_function(op);
    default:
      return nullptr;
  }
}

bool is_own(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16 || dtype == at::kBool;
}

std::optional<MPI_Datatype> number_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kChar:
      return MPI_INT8_T;
    case at::kByte:
      return MPI_UINT8_T;
    case at::kShort:
      return MPI_INT16_T;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    case at::kUInt16:
      return MPI_UINT16_T;
    case at::kUInt32:
      return MPI_UINT32_T;
    case at::kUInt64:
      return MPI_UINT64_T;
    case at::kComplexFloat:
      return MPI_C_FLOAT_COMPLEX;
    case at::kComplexDouble:
      return MPI_C_DOUBLE_COMPLEX;
    default:
      return std::nullopt;
  }
}

std::optional<MPI_Op> number_op(at::ScalarType dtype, Op op) {
  const bool whole = at::isIntegralType(dtype, /*includeBool=*/false);
  const bool ordered = !at::isComplexType(dtype);
  switch (op) {
    case Op::SUM:
      return MPI_SUM;
    case Op::PRODUCT:
      return MPI_PROD;
    case Op::MIN:
      return ordered ? std::optional(MPI_MIN) : std::nullopt;
    case Op::MAX:
      return ordered ? std::optional(MPI_MAX) : std::nullopt;
    case Op::BAND:
      return whole ? std::optional(MPI_BAND) : std::nullopt;
    case Op::BOR:
      return whole ? std::optional(MPI_BOR) : std::nullopt;
    case Op::BXOR:
      return whole ? std::optional(MPI_BXOR) : std::nullopt;
    default:
      return std::nullopt;
  }
}

// AVG is a SUM and a division, where elements can be divided.
Op summed(at::ScalarType dtype, Op op) {
  const bool divides = at::isFloatingType(dtype) || at::isComplexType(dtype);
  return op == Op::AVG && divides ? Op::SUM : op;
}

}  // namespace

void check_reduction(at::ScalarType dtype, const ::c10d::ReduceOp& reduce) {
  const Op op = summed(dtype, reduce.op_);
  if (is_own(dtype) ? own_function(dtype, op) != nullptr
                    : number_type(dtype) && number_op(dtype, op)) {
    return;
  }
  throw std::invalid_argument(
      fmt::format("MPI has no reduction number {} of {}",
                  static_cast<int>(reduce.op_), c10::toString(dtype)));
}

Reduction reduction(at::ScalarType dtype, const ::c10d::ReduceOp& reduce) {
  check_reduction(dtype, reduce);
  const Op op = summed(dtype, reduce.op_);
  if (!is_own(dtype)) return {*number_type(dtype), *number_op(dtype, op)};
  static std::map<MPI_User_function*, MPI_Op> operators;
  MPI_User_function* const function = own_function(dtype, op);
  auto [found, is_new] = operators.try_emplace(function, MPI_OP_NULL);
  if (is_new) {
    mpi_check(MPI_Op_create(function, /*commute=*/1, &found->second));
  }
  return {moving_type(dtype), found->second};
}

MPI_Datatype moving_type(at::ScalarType dtype) {
  switch (c10::elementSize(dtype)) {
    case 1:
      return MPI_UINT8_T;
    case 2:
      return MPI_UINT16_T;
    case 4:
      return MPI_UINT32_T;
    case 8:
      return MPI_UINT64_T;
    case 16:
      return MPI_C_DOUBLE_COMPLEX;
    default:
      throw std::invalid_argument(
          fmt::format("MPI moves no elements of {}", c10::toString(dtype)));
  }
}

std::string mpi_error(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) {
    return fmt::format("MPI error {}", code);
  }
  return std::string(text, length);
}

void mpi_check(int code) {
  if (code != MPI_SUCCESS) throw std::runtime_error(mpi_error(code));
}

}  // namespace dai
