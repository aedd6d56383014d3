// SPDX-License-Identifier: Apache-2.0
#include "common/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <thread>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class File : public TempFolder {};

TEST_F(File, WritesAndReadsBackAnyBytes) {
  const std::string text("a\0b\n\xff", 5);
  const fs::path path = folder_ / "f";
  write_file_atomically(path, text);
  EXPECT_EQ(read_file(path), text);
  write_file_atomically(path, std::string_view());  // replaces, also by nothing
  EXPECT_EQ(read_file(path), "");
  EXPECT_THAT(files(), ElementsAre("f"));

  const std::string large(3'000'001, 'x');
  write_file_atomically(path, std::as_bytes(std::span(large)));
  EXPECT_EQ(read_file(path), large);
}

TEST_F(File, TheFinalNameIsUntouchedUntilCommit) {
  const fs::path path = folder_ / "f";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write(std::as_bytes(std::span("new", 3)));
    EXPECT_EQ(read_file(path), "old");
    EXPECT_EQ(files().size(), 2u);
  }  // never committed, as when an exception passes by
  EXPECT_EQ(read_file(path), "old");
  EXPECT_THAT(files(), ElementsAre("f"));
}

TEST_F(File, AFullDiskLeavesTheOldFileAndNoTemporary) {
  const fs::path path = folder_ / "f";
  write_file_atomically(path, "old");
  // A limit on the file size fails in write(2) half-way, as a full disk does.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{100'000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::string large(200'000, 'x');
  const std::string what = message_of<std::system_error>(
      [&] { write_file_atomically(path, large); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(what, HasSubstr(path.string()));
  EXPECT_THAT(what, HasSubstr("File too large"));
  EXPECT_EQ(read_file(path), "old");
  EXPECT_THAT(files(), ElementsAre("f"));
}

TEST_F(File, ImpossiblePathsAreTheCallersMistake) {
  const std::string folder = folder_.string();
  EXPECT_EQ(message_of<UsageError>(
                [&] { write_file_atomically(folder_ / "no" / "f", "x"); }),
            "cannot write '" + folder + "/no/f': No such file or directory");
  EXPECT_EQ(message_of<UsageError>([&] { write_file_atomically(folder_, ""); }),
            "cannot write '" + folder + "': Is a directory");
  EXPECT_EQ(message_of<UsageError>([&] { read_file(folder_ / "f"); }),
            "cannot open '" + folder + "/f': No such file or directory");
  EXPECT_THAT(message_of<UsageError>([&] { read_file(folder_); }),
              HasSubstr("Is a directory"));
  EXPECT_THAT(message_of<UsageError>([&] { MappedFile mapped(folder_); }),
              HasSubstr("not a regular file"));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(File, WhatIsNoRegularFileIsWrittenInPlace) {
  const fs::path path = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int pipe = ::open(path.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(pipe, 0);
  write_file_atomically(path, "through the pipe");
  char got[100];
  const ssize_t n = ::read(pipe, got, sizeof got);
  ::close(pipe);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(got, static_cast<std::size_t>(n)), "through the pipe");
  EXPECT_TRUE(fs::is_fifo(path));  // as root, a rename would replace devices
}

TEST_F(File, ALinkStaysALink) {
  write_file_atomically(folder_ / "real", "old");
  fs::create_symlink("real", folder_ / "link");
  write_file_atomically(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "real"), "new");
}

TEST_F(File, ALeftOverTemporaryIsPassedOver) {
  const fs::path path = folder_ / "f";
  // Whatever number this process's next temporary has, it is taken.
  for (int i = 0; i < 64; ++i) {
    write_file_atomically(folder_ / ("f.tmp-" + std::to_string(::getpid()) +
                                     "-" + std::to_string(i + 64)),
                          "left by a killed process");
  }
  for (int i = 0; i < 80; ++i) write_file_atomically(path, std::to_string(i));
  EXPECT_EQ(read_file(path), "79");
  EXPECT_EQ(files().size(), 65u);
}

TEST_F(File, WritersOfOneNameDoNotMix) {
  const fs::path path = folder_ / "f";
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&, i] {
      const std::string text(10'000, static_cast<char>('a' + i));
      for (int k = 0; k < 10; ++k) write_file_atomically(path, text);
    });
  }
  for (auto& writer : writers) writer.join();
  const std::string text = read_file(path);
  EXPECT_EQ(text, std::string(10'000, text.at(0)));
  EXPECT_THAT(files(), ElementsAre("f"));
}

TEST_F(File, AMappingOutlivesItsName) {
  write_file_atomically(folder_ / "f", "mapped");
  MappedFile first(folder_ / "f");
  fs::remove(folder_ / "f");
  const MappedFile second = std::move(first);
  ASSERT_EQ(second.bytes().size(), 6u);
  EXPECT_EQ(second.bytes()[0], std::byte{'m'});

  write_file_atomically(folder_ / "empty", std::string_view());
  EXPECT_TRUE(MappedFile(folder_ / "empty").bytes().empty());
}

}  // namespace
}  // namespace dai
