// SPDX-License-Identifier: Apache-2.0
#include "common/allocator.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace dai {
namespace {

constexpr std::size_t kBlocks = 16, kBlockBytes = std::size_t{8} << 20;

long page_faults() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return used.ru_minflt;
}

// What a training step does to the heap: all of it taken, written, given back.
void one_step() {
  void* blocks[kBlocks];
  for (void*& block : blocks) {
    block = std::malloc(kBlockBytes);
    std::memset(block, 1, kBlockBytes);
  }
  for (void* block : blocks) std::free(block);
}

long faults_of_a_later_step() {
  one_step();
  const long before = page_faults();
  one_step();
  return page_faults() - before;
}

TEST(Allocator, RepeatedStepsDoNotFaultTheirPagesAgain) {
  const long given_back = faults_of_a_later_step();
  keep_freed_memory();
  EXPECT_LT(20 * faults_of_a_later_step(), given_back);
}

}  // namespace
}  // namespace dai
