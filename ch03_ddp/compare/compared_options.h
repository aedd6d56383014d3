// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the apps of this chapter that compare trainings have in common: options
// for model, text and sizes, and the way from a command line to a process group
// and a corpus.
//
//   const Stage stage = set_stage(app, given.compared, told, [&] { ... });
//   stage.group, stage.corpus

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ch01_intro/tokenizer/text_corpus.h"
#include "ch03_ddp/compare/compared_training.h"
#include "common/app.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct ComparedOptions {
  std::string model;
  std::string text;
  std::int64_t text_bytes = 0;
  std::int64_t window = 128;
  ComparedSizes given;
  DistributedOptions distributed;

  void declare(OptionSet& set);
  // First of all: 0 microbatches become one a rank.
  void settle(int ranks);
  // For presets.
  void set_sizes(const char* of, int steps, int microbatches,
                 int microbatch_size, int tokens, double learning_rate);
  std::string to_string(std::uint64_t seed) const;
  ComparedSizes sizes(std::uint64_t seed) const;
  intro::TextCorpusOptions corpus(std::uint64_t seed) const;
};

// "a,b,c". UsageError for a name twice.
std::vector<std::string> names_in(const std::string& flag,
                                  const std::string& text);
// UsageError unless the ranks can share them in whole microbatches.
void check_validation_windows(std::int64_t windows,
                              std::int64_t microbatch_size, int ranks);
// UsageError where fewer are held back: they would come again.
void require_held_back(const intro::TokenCorpus& corpus, std::int64_t windows);

struct Stage {
  ProcessGroup group;
  intro::TokenCorpus corpus;
};

// Connects the ranks, which have all been told the same, `check` being what
// each looks at first; loads the text; prints what is going to happen; and has
// the collectives traced where --trace asks for it.
Stage set_stage(App& app, const ComparedOptions& options,
                const std::string& app_name, const std::string& told,
                const std::function<void()>& check);

}  // namespace dai::ddp
