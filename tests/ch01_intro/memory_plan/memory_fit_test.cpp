// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// A machine's files as far as free_memory_bytes() reads them.
class MemoryFit : public TempFolder {
 protected:
  void write(const std::string& name, const std::string& text) {
    const auto path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void SetUp() override {
    TempFolder::SetUp();
    write("proc/meminfo",
          "MemTotal:       24000000 kB\nMemAvailable:   1000 kB\n"
          "HugePages_Total:       0\nHugepagesize:       2048 kB\n");
  }
};

TEST_F(MemoryFit, WithoutALimitItIsWhatTheKernelHasAvailable) {
  EXPECT_EQ(free_memory_bytes(folder_), 1024000);
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "100\n");
  EXPECT_EQ(free_memory_bytes(folder_), 1024000);
}

TEST_F(MemoryFit, AControlGroupLeavesItsLimitLessWhatIsUsed) {
  write("sys/fs/cgroup/memory.max", "500000\n");
  write("sys/fs/cgroup/memory.current", "100000\n");
  EXPECT_EQ(free_memory_bytes(folder_), 400000);
}

TEST_F(MemoryFit, ThePeakDecidesToTheByte) {
  const PlanSetup setup{decoder_config("nano-1m"), 4, 64, Rung::kFused};
  const std::int64_t peak = plan_memory(setup).peak().bytes;
  EXPECT_NO_THROW(check_fits(setup, peak));
  EXPECT_THAT([&] { check_fits(setup, peak - 1); },
              ThrowsMessage<UsageError>(AllOf(
                  HasSubstr("nano-1m with 4 x 64 tokens"), HasSubstr("free"))));
}

TEST_F(MemoryFit, SizesBeyondAnyMachineAreRefusedNotWrapped) {
  PlanSetup setup{decoder_config("llama-405b"), 1000000000, 1024};
  EXPECT_THROW(check_fits(setup, free_memory_bytes()), UsageError);
}

}  // namespace
}  // namespace dai::intro
