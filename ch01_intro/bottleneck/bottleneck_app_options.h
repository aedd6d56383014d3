// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_find_bottleneck.

#include <cstdint>
#include <string>

#include "ch01_intro/bottleneck/watched_training.h"
#include "common/app.h"
#include "common/torch/process_group.h"

namespace dai::intro {

struct BottleneckAppOptions {
  WatchedJobOptions job;
  std::int64_t warm_up = 3;           // steps that nobody judges
  std::int64_t reference_steps = 12;  // then what undisturbed looks like
  std::int64_t window = 12;           // steps judged together
  std::int64_t windows = 4;
  std::string reference;  // a recorded one instead of this run's
  std::string record;
  DistributedOptions distributed;

  BottleneckAppOptions() { distributed.device = "cpu"; }
  void declare(OptionSet& set);
  // Before any step is trained for nothing. UsageError: fewer steps than a
  // verdict needs.
  void check() const;
};

}  // namespace dai::intro
