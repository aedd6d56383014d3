// SPDX-License-Identifier: Apache-2.0
#pragma once

// The preflight of one rank, stage after stage (selfcheck.h says which). Not
// for other code: run_selfcheck() is. A stage that cannot go on throws Alone.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ch01_intro/selfcheck/board.h"
#include "ch01_intro/selfcheck/reach.h"
#include "ch01_intro/selfcheck/selfcheck.h"
#include "ch01_intro/selfcheck/watchdog.h"
#include "common/rank_status.h"

namespace dai::intro {

// To be raised with any change of what the ranks of a preflight post: builds
// that do not understand each other say so instead of misreading.
inline constexpr const char* kPreflightFormat = "preflight format 2";

class Preflight {
 public:
  using Clock = std::chrono::steady_clock;
  using milliseconds = std::chrono::milliseconds;

  Preflight(const LaunchContext& launch, const SelfcheckOptions& options)
      : launch_(launch),
        options_(options),
        limit_(std::chrono::seconds(options.distributed.timeout_s)),
        begin_(Clock::now()),
        status_(RankStatusWriter::from_environment(launch.rank)),
        watchdog_(launch.rank, launch.world_size, launch.host) {
    result_.rank = launch.rank;
    result_.ranks.resize(launch.world_size);
  }

  // Ends early where rank 0 cannot be met: what is known by then is all.
  SelfcheckResult run(const std::function<void(const SelfcheckResult&)>& tell);

 private:
  struct Alone {
    std::optional<Finding> finding;
  };

  RankReport& mine() { return result_.ranks[launch_.rank]; }
  bool is_rank0() const { return launch_.rank == 0; }
  Deadline in(double part) const {
    return Clock::now() +
           std::chrono::duration_cast<Clock::duration>(limit_ * part);
  }
  Finding finding(const char* check, const std::string& measured,
                  const std::string& expected,
                  const std::string& advice) const {
    return {check,    launch_.host, {launch_.rank}, false,
            measured, expected,     advice};
  }
  // Says where this rank is, and sets the watchdog to so many time-outs.
  void stage(const char* name, double parts);
  [[noreturn]] void rank0_is_silent(const char* check) const;

  // Before the group: before_the_group.cpp.
  // What the ranks tell each other, as [kPreflightFormat, host, message]; the
  // first two keep their places in every format. A message of another format
  // is nothing, and its sender is marked as foreign.
  std::string sealed(const nlohmann::json& message) const;
  static std::optional<nlohmann::json> opened(const std::string& text,
                                              RankReport& from);
  nlohmann::json opened_from_rank0(const std::string& text);
  std::string greeting();
  static void read_greeting(const nlohmann::json& said, RankFacts& facts);
  void look_at_myself();
  void choose_my_device();
  void resolve_master();
  void arrive();
  // Within it, and after: selfcheck.cpp.
  void ping();
  void form_group();
  std::string obstacle() const;
  void finish(const std::function<void(const SelfcheckResult&)>& tell);
  void linger() const;
  void mark_silent(int rank, const char* check);
  std::vector<int> present() const;

  const LaunchContext launch_;
  const SelfcheckOptions options_;
  const milliseconds limit_;
  const Clock::time_point begin_;
  std::unique_ptr<RankStatusWriter> status_;
  Watchdog watchdog_;
  std::vector<std::string> master_;  // its addresses
  std::unique_ptr<EchoServer> echo_;
  std::unique_ptr<Board> board_;
  SelfcheckResult result_;
};

}  // namespace dai::intro
