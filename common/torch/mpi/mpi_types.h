// SPDX-License-Identifier: Apache-2.0
#pragma once

// PyTorch's dtypes and reductions in MPI's words. MPI has no bfloat16, no
// float16 and no bool that PyTorch's rules fit, so these have operators of our
// own (MPI_Op_create): 16-bit floats are combined in float and rounded after
// each step; a sum of bools is their "or", a product their "and".
//
//   const Reduction how = reduction(at::kBFloat16, c10d::ReduceOp::SUM);
//   MPI_Iallreduce(MPI_IN_PLACE, data, n, how.type, how.op, comm, &request);
//
// For the MPI thread alone (mpi_engine.h): the first use creates the operators.
// Errors: std::invalid_argument for what cannot be reduced so.

#include <c10/core/ScalarType.h>
#include <mpi.h>

#include "common/torch/c10d_compat.h"

namespace dai {

struct Reduction {
  MPI_Datatype type;
  MPI_Op op;
};

// SUM, PRODUCT, MIN, MAX of numbers, BAND, BOR, BXOR of integers and bools;
// AVG of floating point and complex is the SUM (the caller divides by the
// ranks).
Reduction reduction(at::ScalarType dtype, const ::c10d::ReduceOp& op);
// The same question without an answer, for the caller's thread: throws as
// reduction() would.
void check_reduction(at::ScalarType dtype, const ::c10d::ReduceOp& op);

// For moving elements: a type of their size, whatever they mean.
MPI_Datatype moving_type(at::ScalarType dtype);

// MPI's text for an error code.
std::string mpi_error(int code);
// Throws std::runtime_error with it, unless `code` is MPI_SUCCESS.
void mpi_check(int code);

}  // namespace dai
