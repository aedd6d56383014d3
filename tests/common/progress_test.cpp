// SPDX-License-Identifier: Apache-2.0
#include "common/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace dai {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

void pause_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// What is written to a log file (no terminal), lines at least 20 ms apart.
template <class F>
std::string logged(F&& function) {
  std::FILE* file = std::tmpfile();
  function(ProgressOutput{file, 0, 0.02});
  std::string text(static_cast<std::size_t>(std::ftell(file)), ' ');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

TEST(Progress, ALogGetsPlainLinesNowAndThen) {
  const std::string text = logged([](ProgressOutput output) {
    Progress progress("train", 1000, true, "steps", output);
    progress.update(1, "loss 9");  // too early for a line
    pause_ms(25);
    progress.update(450, "loss 0.42");
    for (int i = 451; i <= 1000; ++i) progress.update(i, "loss 0.1");
  });
  // One line when it was due, then the state at the end. (A machine so slow
  // that the loop takes 20 ms gets a few more in between.)
  EXPECT_THAT(text, StartsWith("train 450/1000 steps (45 %) "));
  EXPECT_THAT(text, HasSubstr(" s left, loss 0.42\n"));
  EXPECT_THAT(text.substr(text.rfind('\n', text.size() - 2) + 1),
              MatchesRegex("train 1000/1000 steps \\(100 %\\) "
                           "[0-9.e+]+ steps/s, loss 0.1\n"));
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(Progress, AShortRunLogsNothing) {
  EXPECT_EQ(logged([](ProgressOutput output) {
              output.plain_interval_s = 5;
              Progress progress("train", 10, true, "steps", output);
              for (int i = 1; i <= 10; ++i) progress.update(i);
            }),
            "");
}

TEST(Progress, OtherRanksAreSilent) {
  EXPECT_EQ(logged([](ProgressOutput output) {
              output.plain_interval_s = 0;
              Progress progress("train", 10, false, "steps", output);
              for (int i = 1; i <= 10; ++i) progress.update(i);
            }),
            "");
}

TEST(Progress, WithoutATotalThereIsNoTimeLeft) {
  EXPECT_THAT(logged([](ProgressOutput output) {
                output.plain_interval_s = 0;
                Progress progress("read", 0, true, "files", output);
                progress.update(0);
              }),
              MatchesRegex("(read 0 files 0 files/s\n)+"));
}

TEST(Progress, ATerminalGetsOneLineThatRewritesItself) {
  // A stated width stands for a terminal: build roots have no /dev/pts.
  const std::string text = logged([](ProgressOutput output) {
    output.terminal_interval_s = 0;
    output.columns = 30;
    Progress progress("train", 2, true, "steps", output);
    progress.update(1, "a note that does not fit into thirty columns");
    progress.update(2);
  });
  EXPECT_THAT(text, StartsWith("\rtrain 1/2 steps (50 %) "));
  EXPECT_THAT(text, HasSubstr("\x1b[K\rtrain 2/2 steps (100 %) "));
  EXPECT_EQ(text.find("columns"), std::string::npos);
  EXPECT_EQ(text.find("\x1b[K"), 30u);          // \r and 29 characters
  EXPECT_EQ(text.find('\n'), text.size() - 1);  // one line, ended at the end
}

}  // namespace
}  // namespace dai
