// SPDX-License-Identifier: Apache-2.0
#include "common/collective_observer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <stdexcept>

#include "common/rank_status.h"

namespace dai {
namespace {

CollectiveEvent all_reduce(std::uint64_t sequence) {
  CollectiveEvent event;
  event.op = "all_reduce";
  event.sequence = sequence;
  event.dtype = "float32";
  event.shape = {128, 3};
  event.tensors = 1;
  event.reduce_op = "sum";
  return event;
}

TEST(CollectiveEvent, SaysWhatMatters) {
  EXPECT_EQ(all_reduce(17).to_string(),
            "all_reduce #17 (float32[128, 3], sum)");
  CollectiveEvent event;
  event.op = "barrier";
  event.sequence = 2;
  EXPECT_EQ(event.to_string(), "barrier #2");
  event.op = "recv";
  event.dtype = "int64";
  event.peer = 3;
  event.where = "ring.cpp:5";
  EXPECT_EQ(event.to_string(), "recv #2 (int64[], from rank 3, at ring.cpp:5)");
}

class RankStatusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / "dai_status_XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    setenv("DAI_STATUS_DIR", folder_.c_str(), 1);
    LaunchContext launch;
    launch.rank = 1;
    observer_ = make_rank_status_observer(launch);
    ASSERT_NE(observer_, nullptr);
  }
  void TearDown() override {
    observer_.reset();
    std::filesystem::remove_all(folder_);
    unsetenv("DAI_STATUS_DIR");
  }
  RankStatusInfo status() {
    return read_rank_status(rank_status_path(folder_, 1)).value();
  }
  std::string folder_;
  std::shared_ptr<CollectiveObserver> observer_;
};

TEST_F(RankStatusTest, NamesTheOldestCollectiveInFlight) {
  observer_->on_begin(all_reduce(1));
  observer_->on_begin(all_reduce(2));
  EXPECT_EQ(status().text, all_reduce(1).to_string());
  observer_->on_end(all_reduce(1), nullptr);
  EXPECT_EQ(status().text, all_reduce(2).to_string());
  EXPECT_TRUE(status().inside);
  observer_->on_end(all_reduce(2), nullptr);
  EXPECT_FALSE(status().inside);
  EXPECT_EQ(status().text, all_reduce(2).to_string());
}

TEST_F(RankStatusTest, KeepsTheCollectiveThatFailed) {
  observer_->on_begin(all_reduce(1));
  observer_->on_end(all_reduce(1),
                    std::make_exception_ptr(std::runtime_error("peer died")));
  EXPECT_TRUE(status().inside);
}

TEST(RankStatus, NobodyIsToldWithoutALauncher) {
  unsetenv("DAI_STATUS_DIR");
  EXPECT_EQ(make_rank_status_observer({}), nullptr);
}

}  // namespace
}  // namespace dai
