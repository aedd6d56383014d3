// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_ddp_train, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch01_intro/tokenizer/text_corpus.h"
#include "ch03_ddp/train/train_run.h"
#include "common/app.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct TrainAppOptions {
  std::string task = "text";
  std::string model;
  std::string rung = "fused";
  std::string precision = "fp32";
  std::string text, images;
  std::int64_t text_bytes = 0;
  std::int64_t window = 128;
  double bucket_mb = 25, first_bucket_mb = 1;
  std::int64_t steps = 0, microbatches = 0, microbatch_size = 0;  // 0: preset's
  double learning_rate = 0;
  bool paced = false;
  bool save_in_the_foreground = false;
  bool watch = false;
  WatchOptions watching;
  std::string windows_out;
  TrainOptions train;
  DistributedOptions distributed;

  void declare(OptionSet& set);
  bool is_text() const { return task == "text"; }
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  TrainOptions options(std::uint64_t seed) const;
  intro::TextCorpusOptions corpus(std::uint64_t seed) const;
  // What would fail after the training fails before it: UsageError for files
  // that this rank, if it `writes`, cannot write. Makes the checkpoints'
  // folder.
  void check_files(bool writes) const;

 private:
  // Sizes of a preset for each task, where no option says otherwise.
  struct Sizes {
    std::int64_t steps = 1, microbatches = 12, microbatch_size = 1;
    double learning_rate = 1e-3;
  };
  Sizes sizes() const;
  Metadata config(std::uint64_t seed) const;
  Sizes text_sizes_, image_sizes_;
};

}  // namespace dai::ddp
