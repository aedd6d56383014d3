// SPDX-License-Identifier: Apache-2.0
#pragma once

// A job that can be asked why it is slow: a decoder in training, naive data
// parallelism, and beside it the meters and probes whose readings become
// evidence (evidence.h). It knows nothing of what may be done to it.
//
//   WatchedTraining job({.cache_folder = app.cache_dir()}, group);
//   job.observe(3);                              // warm-up
//   Evidence evidence;
//   evidence.reference = job.observe(12);
//   evidence.watched = job.observe(16);
//   fmt::print("{}\n", judge(evidence).sentence());
//
// The meters are decorators around the trainer's own interfaces, TrainingTask
// and GradientSync; the trainer is as shipped. Tokens are bytes: of the
// dictionary (text_corpus.h), or of `input`, a file or pipe read while the step
// waits for it (byte_stream.h).
// Errors: UsageError for options that do not fit and for a group on CUDA, those
// of the stream, the trainer and the group.

#include <cstdint>
#include <memory>
#include <string>

#include "ch01_intro/bottleneck/evidence.h"

namespace dai {
class ProcessGroup;
}

namespace dai::intro {

struct WatchedJobOptions {
  std::string decoder = "nano-1m";
  std::int64_t microbatches = 12;  // a step, over all ranks
  std::int64_t samples = 1;        // of a microbatch
  std::int64_t window = 96;        // tokens of a sample
  std::string input;               // empty: the English text
  std::string cache_folder;        // for that text's tokens
  std::int64_t input_timeout_s = 60;
  std::uint64_t seed = 1234;

  std::string to_string() const;  // all of it, for ranks to compare
};

class WatchedTraining {
 public:
  WatchedTraining(const WatchedJobOptions& options, ProcessGroup& group);
  ~WatchedTraining();

  // Collective: trains so many steps, each followed by the probes, and gives
  // every rank's measures to all.
  JobEvidence observe(std::int64_t steps);

  double first_loss() const;
  double last_loss() const;
  std::int64_t skipped_updates() const;  // equal on every rank
  // Bits in which this rank's parameters differ from rank 0's. Collective.
  std::int64_t bits_off_rank0();

 private:
  struct Job;
  std::unique_ptr<Job> job_;
};

}  // namespace dai::intro
