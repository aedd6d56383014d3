// SPDX-License-Identifier: Apache-2.0
// A million random operations, in lives of a few thousand; DAI_LIFE_OPERATIONS
// and DAI_LIFE_SEED make it more and others.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/ch06_paged_inference/support/engine_life.h"

namespace dai::paged {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::int64_t kOperations = 100'000;
#else
constexpr std::int64_t kOperations = 1'000'000;
#endif

std::int64_t from_environment(const char* name, std::int64_t fallback) {
  const char* const text = std::getenv(name);
  return text == nullptr ? fallback : std::stoll(text);
}

TEST(EngineLife, NoBlockIsLostAndNoAnswerChanged) {
  const std::int64_t operations =
      from_environment("DAI_LIFE_OPERATIONS", kOperations);
  auto seed = static_cast<std::uint64_t>(from_environment("DAI_LIFE_SEED", 0));
  LifeSummary all;
  for (; all.operations < operations; ++seed) {
    Choices choices(seed);
    LifeSummary one;
    ASSERT_NO_THROW(one = live(choices, 2000)) << "seed " << seed;
    all.operations += one.operations;
    all.steps += one.steps;
    all.finished += one.finished;
    all.cancelled += one.cancelled;
    all.failed += one.failed;
    all.preemptions += one.preemptions;
    all.evicted += one.evicted;
    all.copied += one.copied;
    all.deduplicated += one.deduplicated;
    all.shared += one.shared;
  }
  // Everything did happen, often.
  const std::int64_t often = operations / 1000;
  EXPECT_GT(all.finished, often * 10);
  EXPECT_GT(all.cancelled, often);
  EXPECT_GT(all.failed, often / 10);
  EXPECT_GT(all.preemptions, often);
  EXPECT_GT(all.evicted, often);
  EXPECT_GT(all.copied, often);
  EXPECT_GT(all.deduplicated, often);
  EXPECT_GT(all.shared, often);
}

}  // namespace
}  // namespace dai::paged
