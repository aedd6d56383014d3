// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(MemoryFit, ThePeakDecidesToTheByte) {
  const PlanSetup setup{decoder_config("nano-1m"), 4, 64, Rung::kFused};
  const std::int64_t peak = plan_memory(setup).peak().bytes;
  EXPECT_NO_THROW(check_fits(setup, peak));
  EXPECT_NO_THROW(check_fits(setup, /*unknown*/ -1));
  EXPECT_THAT([&] { check_fits(setup, peak - 1); },
              ThrowsMessage<UsageError>(AllOf(
                  HasSubstr("nano-1m with 4 x 64 tokens"), HasSubstr("free"))));
}

TEST(MemoryFit, SizesBeyondAnyMachineAreRefusedNotWrapped) {
  PlanSetup setup{decoder_config("llama-405b"), 1000000000, 1024};
  EXPECT_THAT([&] { check_fits(setup, INT64_MAX); },
              ThrowsMessage<UsageError>(HasSubstr("more than 2^62 bytes")));
  setup.config.hidden = INT64_MAX / 8 * 8;
  setup.config.heads = setup.config.kv_heads = 1;
  EXPECT_THROW(check_fits(setup, INT64_MAX), UsageError);
}

}  // namespace
}  // namespace dai::intro
