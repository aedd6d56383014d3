// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/byte_stream.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/errors.h"

namespace dai::intro {
namespace {

class ByteStreamTest : public testing::Test {
 protected:
  ByteStreamTest() {
    std::string name = testing::TempDir() + "stream.XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~ByteStreamTest() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& file) const {
    return (folder_ / file).string();
  }
  void file(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }

  std::filesystem::path folder_;
};

std::string take(ByteStream& stream, std::size_t count) {
  std::string text(count, '?');
  stream.read({reinterpret_cast<unsigned char*>(text.data()), count});
  return text;
}

TEST_F(ByteStreamTest, RanksBeginInTheirPartAndGoRound) {
  file("text", "abcdefgh");
  ByteStream second(path("text"), 1, 2, 5);
  EXPECT_EQ(take(second, 3), "efg");
  EXPECT_EQ(take(second, 4), "habc");
  EXPECT_EQ(second.bytes_read(), 7);
}

TEST_F(ByteStreamTest, RankInThePathBecomesItsNumber) {
  file("feed.3", "xyz");
  ByteStream stream(path("feed.{rank}"), 3, 4, 5);
  EXPECT_EQ(stream.bytes_read(), 0);
}

TEST_F(ByteStreamTest, APipeIsReadAsItIsFilledAndItsEndIsAnError) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  ByteStream stream(path("pipe"), 0, 1, 20);
  std::thread writer([&] {
    const int fd = open(path("pipe").c_str(), O_WRONLY);
    EXPECT_EQ(write(fd, "ab", 2), 2);
    usleep(20'000);
    EXPECT_EQ(write(fd, "cd", 2), 2);
    close(fd);
  });
  EXPECT_EQ(take(stream, 4), "abcd");
  writer.join();
  EXPECT_THAT([&] { take(stream, 1); },
              testing::ThrowsMessage<std::runtime_error>(
                  testing::HasSubstr("its writer ended after 4 bytes")));
}

TEST_F(ByteStreamTest, ASilentPipeRunsOutOfTime) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  ByteStream stream(path("pipe"), 0, 1, 1);
  const int fd = open(path("pipe").c_str(), O_WRONLY);
  EXPECT_THAT([&] { take(stream, 1); },
              testing::ThrowsMessage<std::runtime_error>(
                  testing::HasSubstr("no byte for 1 s")));
  close(fd);
}

TEST_F(ByteStreamTest, RefusesWhatHoldsNoBytes) {
  file("empty", "");
  EXPECT_THROW(ByteStream(path("empty"), 0, 1, 1), UsageError);
  EXPECT_THROW(ByteStream(path("none"), 0, 1, 1), UsageError);
  EXPECT_THROW(ByteStream(path("."), 0, 1, 1), UsageError);
}

}  // namespace
}  // namespace dai::intro
