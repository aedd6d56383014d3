// SPDX-License-Identifier: Apache-2.0
#include "tests/ch06_paged_inference/support/pretend_runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/counter_random.h"
#include "ch06_paged_inference/engine/sampler.h"

namespace dai::paged {
namespace {

// Order matters little here and position a lot: a sum over (token, position).
std::uint64_t context_hash(std::int32_t token, std::int64_t position) {
  return intro::mix64(static_cast<std::uint64_t>(position) << 32 ^
                      static_cast<std::uint32_t>(token));
}

void logits_of(std::uint64_t hash, std::span<float> logits) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = 6 * intro::uniform01(hash, i);
  }
}

}  // namespace

std::int32_t& PretendRunner::slot(const StepPlan& plan, const PlanRow& row,
                                  std::int64_t position) {
  const std::int64_t entry = position / block_size_;
  if (entry >= row.blocks) throw std::logic_error("beyond the row's table");
  const BlockId block =
      plan.block_tables.at(static_cast<std::size_t>(row.table + entry));
  return slots_.at(
      static_cast<std::size_t>(block * block_size_ + position % block_size_));
}

void PretendRunner::run(const StepPlan& plan, std::span<float> logits) {
  if (before) before(plan);
  for (const BlockCopy& copy : plan.copies) {
    std::copy_n(slots_.begin() + copy.from * block_size_, block_size_,
                slots_.begin() + copy.to * block_size_);
  }
  std::int64_t tokens = 0;
  for (const PlanRow& row : plan.rows) {
    if (row.first != tokens || row.count < 1) {
      throw std::logic_error("the rows' tokens do not follow each other");
    }
    tokens += row.count;
    for (std::int64_t i = 0; i < row.count; ++i) {
      const std::int32_t token =
          plan.tokens.at(static_cast<std::size_t>(row.first + i));
      if (token < 0 || token >= vocab_) {
        throw std::logic_error(fmt::format("token {}", token));
      }
      slot(plan, row, row.position + i) = token;
    }
  }
  std::size_t drawn = 0;
  for (const PlanRow& row : plan.rows) {
    if (!row.draws) continue;
    std::uint64_t hash = 0;
    for (std::int64_t p = 0; p < row.context(); ++p) {
      hash += context_hash(slot(plan, row, p), p);
    }
    const auto vocab = static_cast<std::size_t>(vocab_);
    logits_of(hash, logits.subspan(vocab * drawn++, vocab));
  }
}

std::vector<float> PretendRunner::logits_after(
    std::span<const std::int32_t> tokens, std::int64_t vocab) {
  std::uint64_t hash = 0;
  for (std::size_t p = 0; p < tokens.size(); ++p) {
    hash += context_hash(tokens[p], static_cast<std::int64_t>(p));
  }
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  logits_of(hash, logits);
  return logits;
}

std::vector<std::int32_t> reference_answer(
    const Request& request, std::int64_t number, std::int64_t index,
    std::int64_t vocab, std::int64_t limit,
    const std::vector<std::int32_t>& end_ids, std::uint64_t engine_seed) {
  Sampler sampler(vocab, engine_seed);
  Sequence sequence;
  sequence.request = number;
  sequence.index = index;
  sequence.asked = std::make_shared<const Request>(request);
  sequence.tokens = request.prompt;
  const SamplingParams& p = request.sampling;
  limit = std::min(limit, sequence.prompt_tokens() + p.max_tokens);
  for (;;) {
    std::vector<float> logits =
        PretendRunner::logits_after(sequence.tokens, vocab);
    const std::int32_t token = sampler.draw(sequence, logits, end_ids).token;
    sequence.tokens.push_back(token);
    const auto ends = [&](const std::vector<std::int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), token) != ids.end();
    };
    if ((!p.ignore_eos && ends(end_ids)) || ends(p.stop_ids) ||
        std::ssize(sequence.tokens) >= limit) {
      break;
    }
  }
  return {sequence.tokens.begin() + sequence.prompt_tokens(),
          sequence.tokens.end()};
}

}  // namespace dai::paged
