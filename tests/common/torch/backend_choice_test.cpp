// SPDX-License-Identifier: Apache-2.0

// Choices that need a machine nobody has here, on libraries made up for it.

#include "common/torch/backend_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"

namespace dai {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

MpiLibrary library(bool cuda_aware) {
  return {
      .version = [] { return std::string("Open MPI v9"); },
      .cuda_aware = cuda_aware ? +[] { return true; } : +[] { return false; },
      .make_backend = nullptr};
}

TEST(CheckCudaAware, RefusesGpuTensorsWhereMpiDoesNotKnowThem) {
  EXPECT_THAT([] { check_cuda_aware(library(false), at::Device("cuda:1")); },
              ThrowsMessage<UsageError>(
                  AllOf(HasSubstr("--device cuda:1"),
                        HasSubstr("Open MPI v9 is not CUDA-aware"),
                        HasSubstr("--backend nccl"))));
}

TEST(CheckCudaAware, LeavesThemToAnMpiThatDoes) {
  EXPECT_NO_THROW(check_cuda_aware(library(true), at::Device("cuda:0")));
}

}  // namespace
}  // namespace dai
