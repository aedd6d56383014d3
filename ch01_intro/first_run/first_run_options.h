// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of ch01_first_distributed, and what its words stand for.

#include <cstdint>
#include <string>

#include "ch01_intro/first_run/one_against_all.h"
#include "ch01_intro/tokenizer/text_corpus.h"
#include "common/app.h"
#include "common/torch/process_group.h"

namespace dai::intro {

struct FirstRunAppOptions {
  std::string model;
  std::string text;
  std::int64_t text_bytes = 0;
  std::int64_t window = 128;
  std::string reduction = "canonical";
  DistributedOptions distributed;

  void declare(OptionSet& set);
  // What all ranks must have been told alike. Not where the text lies: nodes
  // may keep it in different places (same_tokens.h compares what it holds).
  std::string to_string(std::uint64_t seed) const;

  // Throw UsageError for an unknown model, naming the nearest.
  FirstRunOptions run(std::uint64_t seed) const;
  TextCorpusOptions corpus(std::uint64_t seed) const;
  Reduction reduction_kind() const;

 private:
  FirstRunOptions run_;
};

}  // namespace dai::intro
