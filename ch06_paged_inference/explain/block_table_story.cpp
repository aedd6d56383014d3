// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/explain/block_table_story.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

namespace dai::paged {
namespace {

using Line = std::function<void(std::string_view)>;
struct Answer {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
};
using Answers = std::map<std::pair<std::int64_t, std::int64_t>, Answer>;

// A letter for each request, a number for each of its answers: "B2".
std::string name_of(const Sequence& s) {
  std::string name(1, static_cast<char>('A' + s.request % 26));
  return s.asked->sampling.n > 1 ? name + std::to_string(s.index + 1) : name;
}

Request to_request(const StoryRequest& asked, std::int64_t number,
                   const intro::Tokenizer& tokenizer) {
  Request request;
  request.prompt = tokenizer.encode(asked.text);
  request.sampling = {.temperature = 0.8,
                      .seed = static_cast<std::uint64_t>(100 + number),
                      .logprobs = 0,
                      .max_tokens = asked.tokens,
                      .ignore_eos = true,
                      .n = asked.answers};
  return request;
}

std::string words(Tokens tokens, const intro::Tokenizer& tokenizer) {
  std::string text;
  for (const char c : intro::replace_malformed(tokenizer.decode(tokens))) {
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

// What a step does, row by row, and the tables behind it.
void tell_step(const StepPlan& plan, Engine& engine,
               const intro::Tokenizer& tokenizer, const Line& line) {
  std::map<std::int64_t, const Sequence*> by_id;
  for (const Sequence* s : engine.sequences()) by_id[s->id] = s;
  line(fmt::format("step {}: {} tokens of {} sequences\n", plan.step,
                   plan.tokens.size(), plan.rows.size()));
  for (const BlockCopy& copy : plan.copies) {
    line(fmt::format("  copy-on-write: block {} -> {}\n", copy.from, copy.to));
  }
  for (const PlanRow& row : plan.rows) {
    const Sequence& s = *by_id.at(row.sequence);
    const Tokens tokens = Tokens(plan.tokens)
                              .subspan(static_cast<std::size_t>(row.first),
                                       static_cast<std::size_t>(row.count));
    const std::int64_t cached =
        row.position > 0 && s.output_tokens() == 0 ? row.position : 0;
    line(fmt::format(
        "  {:<3} computes \"{}\" at {}{}\n", name_of(s),
        words(tokens, tokenizer), row.position,
        cached > 0 ? fmt::format(", {} before it are there", cached) : ""));
  }
  for (const auto& [id, s] : by_id) {
    if (s->state == SequenceState::kForked) continue;
    line(fmt::format(
        "      {:<3} {}\n", name_of(*s),
        s->state == SequenceState::kWaiting
            ? s->preemptions > 0 ? "preempted: no blocks, waits" : "waits"
            : table_line(*s, engine.scheduler().blocks(), tokenizer)));
  }
  const EngineStats stats = engine.stats();
  const BlockPool& pool = engine.scheduler().blocks().pool();
  line(fmt::format("      {} blocks: {} owned, {} cached, {} free\n\n",
                   stats.blocks, pool.total() - pool.free(), pool.kept(),
                   pool.free() - pool.kept()));
}

// All of them, or number `only`.
Answers run(LoadedModel& model, const std::vector<StoryRequest>& requests,
            std::int64_t only) {
  Engine& engine = model.engine();
  Answers answers;
  std::map<std::int64_t, std::int64_t> numbers;  // engine's -> ours
  std::string error;
  std::size_t next = 0;
  const std::int64_t begin = engine.stats().steps;
  for (bool more = true; more || next < requests.size();) {
    const std::int64_t step = engine.stats().steps - begin;
    while (next < requests.size() &&
           (only >= 0 || !more || requests[next].after_steps <= step)) {
      const auto number = static_cast<std::int64_t>(next++);
      if (only >= 0 && number != only) continue;
      Request request = to_request(requests[static_cast<std::size_t>(number)],
                                   number, model.text().tokenizer);
      request.on_output = [&answers, &numbers, &error](const Output& output) {
        if (!output.error.empty()) error = output.error;
        Answer& answer = answers[{numbers.at(output.request), output.index}];
        answer.tokens.insert(answer.tokens.end(), output.tokens.begin(),
                             output.tokens.end());
        for (const TokenLogprob& token : output.logprobs) {
          answer.logprobs.push_back(token.logprob);
        }
      };
      numbers[engine.submit(std::move(request))] = number;
    }
    more = engine.step();
  }
  if (!error.empty()) throw std::runtime_error(error);
  return answers;
}

}  // namespace

std::string table_line(const Sequence& sequence, const KvBlocks& blocks,
                       const intro::Tokenizer& tokenizer) {
  std::string text;
  const std::int64_t size = blocks.block_size();
  const std::int64_t known =
      std::min(sequence.planned, std::ssize(sequence.tokens));
  for (std::int64_t b = 0; b < std::ssize(sequence.table.blocks); ++b) {
    const BlockId block = sequence.table.blocks[static_cast<std::size_t>(b)];
    const std::int64_t begin = std::min(b * size, known);
    const std::int64_t end = std::min((b + 1) * size, known);
    const std::int32_t references = blocks.pool().references(block);
    text +=
        fmt::format("{}:[{}]{} ", block,
                    words(Tokens(sequence.tokens)
                              .subspan(static_cast<std::size_t>(begin),
                                       static_cast<std::size_t>(end - begin)),
                          tokenizer),
                    references > 1 ? fmt::format("x{}", references) : "");
  }
  return text;
}

Story tell_block_tables(LoadedModel& model,
                        const std::vector<StoryRequest>& requests,
                        const Line& line) {
  Engine& engine = model.engine();
  Story story;
  if (line) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      line(fmt::format("{}: \"{}\"{}\n", static_cast<char>('A' + i % 26),
                       requests[i].text,
                       requests[i].answers > 1
                           ? fmt::format(", {} answers", requests[i].answers)
                           : ""));
    }
    line("\n");
    engine.watch([&](const StepPlan& plan) {
      tell_step(plan, engine, model.text().tokenizer, line);
    });
  }
  const std::int64_t before = engine.stats().steps;
  const Answers together = run(model, requests, -1);
  engine.watch({});
  story.stats = engine.stats();
  story.steps = story.stats.steps - before;
  story.answers = std::ssize(together);
  if (line) {
    for (const auto& [key, answer] : together) {
      line(fmt::format("{}{}: {}...{}\n",
                       static_cast<char>('A' + key.first % 26),
                       requests[static_cast<std::size_t>(key.first)].answers > 1
                           ? std::to_string(key.second + 1)
                           : "",
                       requests[static_cast<std::size_t>(key.first)].text,
                       words(answer.tokens, model.text().tokenizer)));
    }
    line("\n");
  }
  for (const auto& [key, answer] : together) {
    std::vector<std::int32_t> text = model.text().tokenizer.encode(
        requests[static_cast<std::size_t>(key.first)].text);
    const std::int64_t prompt = std::ssize(text);
    if (key.first == 0) story.first_prompt = prompt;
    text.insert(text.end(), answer.tokens.begin(), answer.tokens.end());
    const std::vector<float> naive =
        model.runner().naive_logprobs(text, prompt);
    if (naive.size() != answer.logprobs.size()) story.off = INFINITY;
    for (std::size_t i = 0; i < naive.size() && std::isfinite(story.off); ++i) {
      const double off = std::abs(naive[i] - answer.logprobs[i]);
      if (!(off <= story.off)) story.off = std::isnan(off) ? INFINITY : off;
    }
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    engine.scheduler().reset_prefix_cache();
    for (const auto& [key, answer] :
         run(model, requests, static_cast<std::int64_t>(i))) {
      story.different += together.at(key).tokens != answer.tokens ? 1 : 0;
    }
  }
  return story;
}

}  // namespace dai::paged
