// SPDX-License-Identifier: Apache-2.0
#include "common/control_group.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/common/temp_folder.h"

namespace dai {
namespace {

// A machine's files, as they would lie under "/".
class FakeRoot : public TempFolder {
 protected:
  void put(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root() const { return folder_.string(); }
};

TEST_F(FakeRoot, StrictestCpuQuotaOnTheWayUpHolds) {
  put("/proc/self/cgroup", "0::/a/b\n");
  put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cpu_quota(root()), -1);
  put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(cpu_quota(root()), 1.5);
}

TEST_F(FakeRoot, QuotaOfTheOlderHierarchyIsRead) {
  put("/proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/x\n");
  put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "400000\n");
  put("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota(root()), 4);
}

TEST_F(FakeRoot, MemoryIsWhatMachineAndGroupBothGrant) {
  put("/proc/meminfo", "MemTotal: 4096 kB\nMemAvailable:    2048 kB\n");
  EXPECT_EQ(memory_available_bytes(root()), 2048 * 1024);
  EXPECT_EQ(meminfo_bytes("MemTotal", root()), 4096 * 1024);
  put("/proc/self/cgroup", "0::/job\n");
  put("/sys/fs/cgroup/job/memory.max", "max\n");
  put("/sys/fs/cgroup/job/memory.current", "400000\n");
  EXPECT_EQ(memory_available_bytes(root()), 2048 * 1024);
  put("/sys/fs/cgroup/job/memory.max", "1000000\n");
  EXPECT_EQ(memory_available_bytes(root()), 600000);
}

// A group that has read a large file is full of pages that nobody needs.
TEST_F(FakeRoot, PagesThatTheKernelWouldDropAreFree) {
  put("/proc/self/cgroup", "0::/job\n");
  put("/sys/fs/cgroup/job/memory.max", "1000000\n");
  put("/sys/fs/cgroup/job/memory.current", "900000\n");
  put("/sys/fs/cgroup/job/memory.stat",
      "anon 100000\nfile 800000\ninactive_file 700000\n");
  EXPECT_EQ(memory_available_bytes(root()), 800000);
}

TEST_F(FakeRoot, MemoryOfTheOlderHierarchyIsRead) {
  put("/proc/self/cgroup", "4:memory:/x\n");
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n");
  put("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "3000\n");
  put("/sys/fs/cgroup/memory/x/memory.stat", "total_inactive_file 1000\n");
  EXPECT_EQ(memory_available_bytes(root()), 3000);
}

TEST_F(FakeRoot, NothingThereIsUnknown) {
  EXPECT_EQ(cpu_quota(root()), -1);
  EXPECT_EQ(memory_available_bytes(root()), -1);
  EXPECT_EQ(meminfo_bytes("MemTotal", root()), -1);
}

TEST(ControlGroup, ThisMachineHasMemory) {
  EXPECT_GT(memory_available_bytes(), 0);
}

}  // namespace
}  // namespace dai
