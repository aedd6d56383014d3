// SPDX-License-Identifier: Apache-2.0
#pragma once

// A training whose ranks are killed while it trains, beside one that nobody
// disturbs. The launcher starts all ranks again, they go on from the newest
// checkpoint, and in the end both have the same weights, moments and losses, to
// the bit.
//
//   const Drill drill = run_drill(options);
//   drill.kills            // when, whom, and how soon there was news again
//   drill.differences      // of the two last checkpoints
//
// Kills come from outside (SIGKILL), at moments and of ranks that `seed` draws:
// after the first checkpoint, and whenever a new one has come since the last
// kill. Starts dai_launch and ch03_ddp_train, which lie beside this program.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ch03_ddp/checkpoint/checkpoint_report.h"

namespace dai::ddp {

struct DrillOptions {
  std::filesystem::path bin;  // folder of the two programs
  std::filesystem::path out;  // is emptied
  std::int64_t ranks = 4;
  std::int64_t steps = 40;
  std::int64_t save_every = 4;
  std::int64_t kills = 2;
  std::vector<std::string> training;  // words for both trainings
  std::uint64_t seed = 1234;

  void check() const;  // throws UsageError
};

struct Kill {
  double at_s = 0;  // since the start of the training
  int rank = 0;
  std::int64_t newest_step = 0;  // of the checkpoints there were
  double back_s = 0;             // until the next one was there
};

struct Drill {
  int undisturbed_code = 0, disturbed_code = 0;
  double undisturbed_s = 0, disturbed_s = 0;
  std::vector<Kill> kills;
  std::vector<double> losses;  // of the disturbed training, every step once
  CheckpointDifferences differences;
  std::string trouble;  // the last lines of a training that failed

  std::string to_string() const;
  std::vector<std::pair<std::string, double>> metrics() const;
};

// news: one line for people, as it happens.
Drill run_drill(const DrillOptions& options,
                const std::function<void(const std::string&)>& news);

}  // namespace dai::ddp
