// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch03_ddp_ladder, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch01_intro/tokenizer/text_corpus.h"
#include "ch03_ddp/ladder/climb.h"
#include "common/app.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct LadderAppOptions {
  std::string model;
  std::string text;
  std::int64_t text_bytes = 0;
  std::int64_t window = 128;
  double bucket_mb = 25;
  double first_bucket_mb = 1;
  LadderOptions ladder;
  DistributedOptions distributed;

  void declare(OptionSet& set);
  // What all ranks must have been told alike.
  std::string to_string(std::uint64_t seed) const;
  LadderOptions options(std::uint64_t seed) const;
  intro::TextCorpusOptions corpus(std::uint64_t seed) const;
};

}  // namespace dai::ddp
