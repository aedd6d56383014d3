// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/recorded/recorded.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <string>

#include "common/errors.h"
#include "common/file.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;

class RecordedFile : public ::testing::Test {
 protected:
  const std::string path_ =
      (std::filesystem::path(::testing::TempDir()) / "recorded.json").string();

  void TearDown() override { std::filesystem::remove(path_); }
  std::string refusal() {
    try {
      read_recorded(path_, "ch01_x");
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(RecordedFile, IsReadAsItWasWritten) {
  const nlohmann::ordered_json data = {
      {"rows", {{{"ns", {1, 2, 3}}, {"name", "a \"b\""}}, {{"ns", {}}}}},
      {"ratio", 0.25},
      {"none", nullptr}};
  write_recorded(path_, "ch01_x", data);
  const Recorded recorded = read_recorded(path_, "ch01_x");
  EXPECT_EQ(recorded.data, nlohmann::json(data));
  EXPECT_THAT(recorded.origin, ::testing::ContainsRegex("20[0-9][0-9]-"));
}

TEST_F(RecordedFile, NamesNoHost) {
  write_recorded(path_, "ch01_x", {{"a", 1}});
  const std::string text = read_file(path_);
  EXPECT_THAT(text, ::testing::Not(HasSubstr("\"host\"")));
  EXPECT_THAT(text, HasSubstr("\"cpu\""));
}

TEST_F(RecordedFile, OfAnotherAppOrSchemaIsRefused) {
  write_recorded(path_, "ch01_y", {{"a", 1}});
  EXPECT_THAT(refusal(), HasSubstr("recorded by \"ch01_y\", not by ch01_x"));
  std::string text = read_file(path_);
  text.replace(text.find("\"schema\": 1"), 11, "\"schema\": 7");
  write_file_atomically(path_, text);
  EXPECT_THAT(refusal(), HasSubstr("schema 7"));
}

TEST_F(RecordedFile, CutOffOrMissingIsRefusedWithItsPath) {
  EXPECT_THAT(refusal(), HasSubstr(path_));
  write_recorded(path_, "ch01_x", {{"a", 1}});
  const std::string text = read_file(path_);
  write_file_atomically(path_, text.substr(0, text.size() / 2));
  EXPECT_THAT(refusal(), HasSubstr(path_));
}

}  // namespace
}  // namespace dai::intro
