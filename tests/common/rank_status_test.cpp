// SPDX-License-Identifier: Apache-2.0
#include "common/rank_status.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

namespace dai {
namespace {

class RankStatus : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "rank_status_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(RankStatus, ReadsBackWhatWasSet) {
  const auto path = rank_status_path(folder_, 3);
  EXPECT_EQ(path.filename(), "rank_3.status");
  RankStatusWriter writer(path);
  EXPECT_FALSE(read_rank_status(path));  // nothing set yet

  writer.set("all_reduce #17 (float32, 16384 elements)");
  auto info = read_rank_status(path);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->text, "all_reduce #17 (float32, 16384 elements)");
  EXPECT_TRUE(info->inside);
  EXPECT_GE(info->seconds, 0.0);
  EXPECT_LT(info->seconds, 60.0);

  writer.set("barrier #18");  // shorter than the one before
  writer.leave();
  info = read_rank_status(path);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->text, "barrier #18");
  EXPECT_FALSE(info->inside);
}

TEST_F(RankStatus, SecondsGrowWhileTheRankStays) {
  const auto path = rank_status_path(folder_, 0);
  RankStatusWriter writer(path);
  writer.set("barrier #1");
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_GE(read_rank_status(path)->seconds, 0.03);
}

TEST_F(RankStatus, LongTextIsCut) {
  const auto path = rank_status_path(folder_, 0);
  RankStatusWriter writer(path);
  writer.set(std::string(1000, 'x'));
  EXPECT_EQ(read_rank_status(path)->text,
            std::string(kRankStatusTextBytes, 'x'));
  writer.set("");
  EXPECT_EQ(read_rank_status(path)->text, "");
}

TEST_F(RankStatus, AbsentTruncatedAndForeignFilesGiveNothing) {
  EXPECT_FALSE(read_rank_status(folder_ / "no_such_file"));
  EXPECT_FALSE(read_rank_status(folder_));  // a folder
  const auto path = rank_status_path(folder_, 0);
  RankStatusWriter(path).set("barrier #1");
  const auto size = std::filesystem::file_size(path);
  ASSERT_TRUE(read_rank_status(path));
  for (std::uintmax_t keep = 0; keep < size; ++keep) {
    const auto part = folder_ / "part";
    std::filesystem::copy_file(
        path, part, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(part, keep);
    EXPECT_FALSE(read_rank_status(part)) << keep;
  }
  std::ofstream(path, std::ios::binary) << std::string(size, '\xff');
  EXPECT_FALSE(read_rank_status(path));
}

TEST_F(RankStatus, SurvivesSigkillOfTheRank) {
  const auto path = rank_status_path(folder_, 1);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    RankStatusWriter writer(path);
    writer.set("broadcast #4");
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(read_rank_status(path));
  EXPECT_EQ(read_rank_status(path)->text, "broadcast #4");
}

TEST_F(RankStatus, ReaderNeverSeesAMixtureOfTwoTexts) {
  const auto path = rank_status_path(folder_, 0);
  RankStatusWriter writer(path);
  std::atomic<bool> stop = false;
  std::thread rank([&] {
    const std::string a(200, 'a');
    const std::string b(120, 'b');
    while (!stop) {
      writer.set(a);
      writer.set(b);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const auto info = read_rank_status(path);
    if (!info) continue;  // a thousand collisions in a row: allowed
    const bool is_a = info->text == std::string(200, 'a');
    const bool is_b = info->text == std::string(120, 'b');
    EXPECT_TRUE(is_a || is_b) << info->text;
  }
  stop = true;
  rank.join();
}

TEST_F(RankStatus, EnvironmentDecidesAndABadFolderIsAnError) {
  unsetenv("DAI_STATUS_DIR");
  EXPECT_EQ(RankStatusWriter::from_environment(0), nullptr);
  setenv("DAI_STATUS_DIR", folder_.c_str(), 1);
  auto writer = RankStatusWriter::from_environment(2);
  ASSERT_NE(writer, nullptr);
  writer->set("gather #1");
  EXPECT_TRUE(read_rank_status(rank_status_path(folder_, 2)));
  setenv("DAI_STATUS_DIR", (folder_ / "gone").c_str(), 1);
  EXPECT_THROW(RankStatusWriter::from_environment(0), std::runtime_error);
  unsetenv("DAI_STATUS_DIR");
}

}  // namespace
}  // namespace dai
