// SPDX-License-Identifier: Apache-2.0
#include "common/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/closest_match.h"
#include "common/errors.h"

namespace dai {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

struct Ran {
  int code;
  std::string out, err;
  std::int64_t steps;
  double lr;
  bool flag;
};

class AppContract : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(dir_); }
  void TearDown() override {
    for (const char* name :
         {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
      unsetenv(name);
    }
    std::filesystem::remove_all(dir_);
  }

  Ran run(
      std::vector<std::string> arguments,
      const std::function<void(App&)>& body = [](App& app) {
        app.check("x", 0, 0);
      }) {
    Ran ran{};
    std::string backend = "gloo";
    AppSpec spec{.name = "ch01_probe",
                 .shows = "what run_app does",
                 .example = "scripts/book run ch01_probe"};
    ran.steps = 100;
    spec.declare = [&](OptionSet& set) {
      set.add("--steps", ran.steps, "training steps");
      set.add("--lr", ran.lr, "learning rate");
      set.add("--backend", backend, {"gloo", "nccl"}, "who moves the bytes");
      set.add_flag("--flag", ran.flag, "a switch");
      set.preset("smoke", [&] { ran.steps = 3; });
      set.preset("laptop", [&] { ran.steps = 50; });
    };
    arguments.insert(arguments.begin(), "ch01_probe");
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    ran.code = run_app(static_cast<int>(argv.size()), argv.data(), spec, body);
    ran.out = testing::internal::GetCapturedStdout();
    ran.err = testing::internal::GetCapturedStderr();
    return ran;
  }

  std::string path(const std::string& name) { return dir_ + "/" + name; }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(path(name)) << text;
  }
  nlohmann::json read_json(const std::string& name) {
    std::ifstream in(path(name));
    return nlohmann::json::parse(in);
  }

  std::string dir_ = testing::TempDir() + "app_test." +
                     std::to_string(static_cast<long>(getpid()));
};

TEST_F(AppContract, ChecksDecideTheExitCode) {
  const Ran good = run({});
  EXPECT_EQ(good.code, 0);
  EXPECT_THAT(good.out, HasSubstr("check: x = 0 (tolerance 0) ok"));
  const Ran bad = run({}, [](App& app) { app.check("x", 1, 0); });
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.out, HasSubstr("FAILED"));
  const Ran none = run({}, [](App&) {});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("no check recorded"));
}

TEST_F(AppContract, EveryEndingHasItsCodeAndOneLine) {
  const Ran usage = run({}, [](App&) { throw UsageError("no such file"); });
  EXPECT_EQ(usage.code, 2);
  EXPECT_EQ(usage.err, "ch01_probe: no such file\n");
  const Ran missing =
      run({}, [](App&) { throw Unavailable("needs 2 GPUs, found 0"); });
  EXPECT_EQ(missing.code, 77);
  EXPECT_THAT(missing.err, HasSubstr("needs 2 GPUs, found 0"));
  const Ran failed = run({}, [](App&) { throw std::runtime_error("a\nb\nc"); });
  EXPECT_EQ(failed.code, 1);
  EXPECT_EQ(failed.err, "ch01_probe: a\n");
  EXPECT_EQ(run({}, [](App&) { throw 3; }).code, 1);
}

TEST_F(AppContract, FlagBeatsFileBeatsPreset) {
  EXPECT_EQ(run({}).steps, 50);  // laptop is the default
  EXPECT_EQ(run({"--smoke"}).steps, 3);
  EXPECT_EQ(run({"--preset", "smoke"}).steps, 3);
  EXPECT_EQ(run({"--smoke", "--steps", "7"}).steps, 7);
  write("a.yaml", "steps: 20\nlr: 0.5\nflag: true\n");
  const Ran from_file = run({"--smoke", "--config", path("a.yaml")});
  EXPECT_EQ(from_file.steps, 20);
  EXPECT_EQ(from_file.lr, 0.5);
  EXPECT_TRUE(from_file.flag);
  EXPECT_EQ(run({"--config=" + path("a.yaml"), "--steps=9"}).steps, 9);
  write("b.yaml", "preset: smoke\n");
  EXPECT_EQ(run({"--config", path("b.yaml")}).steps, 3);
  write("yes.yaml", "smoke: yes\n");
  EXPECT_EQ(run({"--config", path("yes.yaml")}).steps, 3);
  write("laptop.yaml", "preset: laptop\nlr: 0.5\n");
  const Ran mixed = run({"--smoke", "--config", path("laptop.yaml")});
  EXPECT_EQ(mixed.steps, 3);
  EXPECT_EQ(mixed.lr, 0.5);
}

TEST_F(AppContract, WrongUsageExitsTwoAndSaysWhatIsAccepted) {
  const auto refused = [&](std::vector<std::string> arguments) {
    const Ran ran = run(std::move(arguments));
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1);
    return ran.err;
  };
  EXPECT_THAT(refused({"--stpes", "3"}),
              HasSubstr("unknown flag --stpes, did you mean --steps?"));
  EXPECT_THAT(refused({"--steps=x"}), HasSubstr("'x' is not a number"));
  EXPECT_THAT(refused({"--steps", "0"}), HasSubstr("below the least value, 1"));
  EXPECT_THAT(refused({"--steps", "99999999999999999999999"}),
              HasSubstr("above the largest value, 1000000000"));
  EXPECT_THAT(refused({"--seed", "18446744073709551616"}),
              HasSubstr("above the largest value, 9223372036854775807"));
  EXPECT_THAT(refused({"--steps"}), HasSubstr("--steps needs a value"));
  EXPECT_THAT(refused({"--json", ""}), HasSubstr("--json"));
  EXPECT_THAT(refused({"extra"}), HasSubstr("extra"));
  EXPECT_THAT(refused({"--backend", "smtp"}), HasSubstr("gloo, nccl"));
  EXPECT_THAT(refused({"--preset", "huge"}), HasSubstr("laptop"));
  EXPECT_THAT(refused({"--preset", "gpu80"}),
              HasSubstr("'gpu80' is none of smoke, laptop"));
  EXPECT_THAT(refused({"--smoke", "--preset", "laptop"}),
              HasSubstr("contradict"));
  EXPECT_THAT(refused({"--config", path("none.yaml")}),
              HasSubstr("cannot open"));
  write("typo.yaml", "lr: 1\nstpes: 20\n");
  EXPECT_THAT(
      refused({"--config", path("typo.yaml")}),
      AllOf(HasSubstr("typo.yaml:2"), HasSubstr("stpes, did you mean steps?")));
  write("list.yaml", "steps: [1, 2]\n");
  EXPECT_THAT(refused({"--config", path("list.yaml")}),
              HasSubstr("one value for each key"));
  write("twice.yaml", "steps: 3\nsteps: 4\n");
  EXPECT_THAT(refused({"--config", path("twice.yaml")}),
              HasSubstr("twice.yaml:2: steps is given twice"));
  write("nested.yaml", "config: other.yaml\n");
  EXPECT_THAT(refused({"--config", path("nested.yaml")}),
              HasSubstr("no place in a file"));
  EXPECT_THAT(refused({"--config", dir_}), HasSubstr(dir_));
  // A value that cannot be names the line it stands on.
  write("value.yaml", "lr: 1\nsteps: abc\n");
  EXPECT_THAT(refused({"--config", path("value.yaml")}),
              AllOf(HasSubstr("value.yaml:2"), HasSubstr("abc")));
  write("maybe.yaml", "smoke: maybe\n");
  EXPECT_THAT(refused({"--config", path("maybe.yaml")}),
              HasSubstr("maybe.yaml:1"));
  write("broken.yaml", "steps: [1\n");
  EXPECT_THAT(refused({"--config", path("broken.yaml")}),
              HasSubstr("broken.yaml"));
}

TEST_F(AppContract, HelpShowsFlagsAndARealExample) {
  const Ran ran = run({"--help"});
  // Of the default preset; CLI11 2.3 writes N=50, 2.4 N [50].
  EXPECT_THAT(ran.out, ContainsRegex("--steps N(=| .)50"));
  EXPECT_THAT(ran.out, ContainsRegex("--preset smoke.laptop(=| .)laptop"));
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("--steps"), HasSubstr("--smoke"),
                             HasSubstr("scripts/book run ch01_probe"),
                             HasSubstr("what run_app does")));
}

TEST_F(AppContract, JsonIsWrittenWholeOrNotAtAll) {
  run({"--json", path("ok.json"), "--seed", "9"}, [](App& app) {
    app.metric("step_ms", 2.5);
    app.check("x", 0, 0);
  });
  EXPECT_EQ(read_json("ok.json")["check"], "ok");
  EXPECT_EQ(read_json("ok.json")["seed"], 9);
  EXPECT_EQ(read_json("ok.json")["metrics"]["step_ms"], 2.5);
  // A failed run says so in the file as well; a usage error leaves it alone.
  run({"--json", path("ok.json")}, [](App& app) { app.check("x", 1, 0); });
  EXPECT_EQ(read_json("ok.json")["check"], "failed");
  run({"--json", path("ok.json")}, [](App&) { throw UsageError("u"); });
  EXPECT_EQ(read_json("ok.json")["check"], "failed");
}

TEST_F(AppContract, AnOutputThatCannotBeIsRefusedBeforeTheWork) {
  bool ran_body = false;
  const Ran nowhere = run({"--json", path("no/such/folder/x.json")},
                          [&](App&) { ran_body = true; });
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_FALSE(ran_body);
  EXPECT_THAT(nowhere.err, HasSubstr("no/such/folder"));
}

TEST_F(AppContract, OutTakesTheReport) {
  const auto proved = [](App& app) { app.check("x", 0, 0); };
  EXPECT_EQ(run({"--out", path("new/folder")}, proved).code, 0);
  EXPECT_EQ(read_json("new/folder/report.json")["check"], "ok");
  write("file", "");
  const Ran ran = run({"--out", path("file/below")}, proved);
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("file/below"));
}

TEST_F(AppContract, AFullDiskFailsTheRunAndKeepsTheOldFile) {
  write("old.json", "old");
  // A file-size limit stands for the full disk: it fails in write() as well.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{10'000, before.rlim_max};
  const Ran full = run({"--json", path("old.json")}, [&](App& app) {
    app.check("x", 0, 0);
    app.attach("large", std::string(20'000, 'x'));
    setrlimit(RLIMIT_FSIZE, &small);
  });
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(full.code, 1);
  EXPECT_EQ(std::filesystem::file_size(path("old.json")), 3U);
}

TEST_F(AppContract, OtherRanksSpeakOnlyOfFailures) {
  setenv("RANK", "1", 1);
  setenv("WORLD_SIZE", "2", 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", "1", 1);
  const Ran good = run({"--json", path("r1.json")}, [](App& app) {
    app.print("table\n");
    app.check("x", 0, 0);
  });
  EXPECT_EQ(good.out + good.err, "");
  EXPECT_FALSE(std::filesystem::exists(path("r1.json")));
  const Ran bad = run({}, [](App& app) { app.check("x", 1, 0); });
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, AllOf(HasSubstr("[rank 1/2]"), HasSubstr("FAILED")));
}

TEST_F(AppContract, HalfAnEnvironmentIsRefused) {
  setenv("RANK", "1", 1);
  const Ran ran = run({});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("WORLD_SIZE"));
}

TEST(ClosestMatch, OffersOnlyWhatIsNear) {
  const std::vector<std::string> words = {"--steps", "--seed", "--backend"};
  EXPECT_EQ(closest_match("--stpes", words), "--steps");
  EXPECT_EQ(closest_match("--backedn", words), "--backend");
  EXPECT_EQ(closest_match("--frobnicate", words), "");
}

}  // namespace
}  // namespace dai
