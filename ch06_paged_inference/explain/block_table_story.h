// SPDX-License-Identifier: Apache-2.0
#pragma once

// Block tables, shown: a few requests on a real model, chosen so that a table
// grows, is shared, forked, copied on write and preempted, step by step in
// words. And a proof: each answer is, token by token, what the request gets
// when it has the engine to itself, and as probable as in one pass over its
// text without any blocks.
//
//   Story story = tell_block_tables(model, requests, print);
//
// Deterministic: the model computes one row at a time (torch_runner.h).

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ch06_paged_inference/generate/loaded_model.h"

namespace dai::paged {

struct StoryRequest {
  std::string text;
  std::int64_t answers = 1;      // to it
  std::int64_t tokens = 8;       // of each
  std::int64_t after_steps = 0;  // when it comes
};

struct Story {
  std::int64_t steps = 0, answers = 0;
  std::int64_t first_prompt = 0;  // tokens of the first request's
  std::int64_t different = 0;     // answers that are others when alone
  double off = 0;  // the most that a log probability is off the naive one
  EngineStats stats;
};

// `line` gets each line as it happens; none: only the result.
Story tell_block_tables(LoadedModel& model,
                        const std::vector<StoryRequest>& requests,
                        const std::function<void(std::string_view)>& line);

// "[Once upon a time]" for each block of the sequence, what is not computed
// yet left out; a block shared by n tables is marked "x n".
std::string table_line(const Sequence& sequence, const KvBlocks& blocks,
                       const intro::Tokenizer& tokenizer);

}  // namespace dai::paged
