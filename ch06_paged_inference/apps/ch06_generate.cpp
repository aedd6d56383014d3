// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>

#include "ch06_paged_inference/extend/no_repeat_ngram.h"
#include "common/app.h"
#include "common/errors.h"

using namespace dai::paged;

struct GenerateOptions {
  LoadedModelOptions model;
  SamplingParams sampling{.temperature = 0, .max_tokens = 256};
  std::string prompt, system, stop;
  std::int64_t no_repeat = 0;

  void declare(dai::OptionSet& set) {
    model.declare(set);
    set.add("--prompt", prompt, "ask this and end; without it lines of stdin");
    set.add("--system", system, "the system's message");
    set.add("--max-tokens", sampling.max_tokens, "most tokens of an answer");
    set.add("--temperature", sampling.temperature, "0: the likeliest token");
    set.add("--top-p", sampling.top_p, "of the likeliest with that probability",
            1e-9);
    set.add("--top-k", sampling.top_k, "of the k likeliest; 0: of all", 0);
    set.add("--min-p", sampling.min_p,
            "of those at least so likely as p times the likeliest", 0);
    set.add("--repetition-penalty", sampling.repetition_penalty,
            "divides the logits of what occurred, prompt included", 1e-3);
    set.add("--presence-penalty", sampling.presence_penalty,
            "taken once from what was generated", -2);
    set.add("--frequency-penalty", sampling.frequency_penalty,
            "taken from it for each time", -2);
    set.add("--stop", stop, "text that ends an answer; not printed");
    set.add("--no-repeat-ngram", no_repeat,
            "no so many tokens in a row twice in an answer; 0: whatever comes",
            0);
    set.preset("smoke", [this] {
      prompt = "What is the capital of France?";
      sampling.max_tokens = 12;
      model.kv_mib = 64;
    });
    set.preset("laptop", [] {});
  }
};

double ask(dai::App& app, LoadedModel& model, Chat& chat,
           const std::string& question) {
  const ChatAnswer answer = chat.ask(question, [&](std::string_view piece) {
    app.print(piece);
    std::fflush(stdout);
  });
  app.print(fmt::format(
      "\n\n{} prompt tokens, {} of them cached; the first token after {:.0f} "
      "ms, then {:.1f} tokens/s; {} tokens, ended by {}\n",
      answer.prompt_tokens, answer.cached_tokens, answer.first_token_ms,
      answer.tokens_per_s, answer.logprobs.size(), finish_name(answer.finish)));
  app.metric("first_token_ms", answer.first_token_ms);
  app.metric("decode_tokens_per_s", answer.tokens_per_s);
  app.metric("cached_tokens", static_cast<double>(answer.cached_tokens));
  // The same text in one pass, without blocks and steps.
  const std::vector<float> naive =
      model.runner().naive_logprobs(answer.tokens, answer.prompt_tokens);
  double off = naive.size() == answer.logprobs.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < naive.size() && std::isfinite(off); ++i) {
    const double one = std::abs(naive[i] - answer.logprobs[i]);
    if (!(one <= off)) off = std::isnan(one) ? INFINITY : one;
  }
  return off;
}

int main(int argc, char** argv) {
  GenerateOptions options;
  const dai::AppSpec spec{
      .name = "ch06_generate",
      .shows = "a language model answers in the terminal, from a paged cache",
      .example =
          "scripts/book run ch06_generate -- --prompt \"What is a cat?\"",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    LoadedModel model(options.model, app);
    app.print(model.description());
    SamplingParams sampling = options.sampling;
    if (!options.stop.empty()) sampling.stop = {options.stop};
    if (options.no_repeat > 0) {
      sampling.processors = {
          std::make_shared<NoRepeatNgram>(options.no_repeat)};
    }
    sampling.check(model.runner().vocab_size());
    Chat chat(model, sampling, options.system);
    double off = 0;
    int asked = 0;
    if (!options.prompt.empty()) {
      app.print(fmt::format("\n> {}\n", options.prompt));
      off = ask(app, model, chat, options.prompt);
      ++asked;
    } else {
      std::string line;
      while (app.print("\n> "), std::fflush(stdout),
             std::getline(std::cin, line)) {
        if (line.empty()) continue;
        try {
          off = std::max(off, ask(app, model, chat, line));
          ++asked;
        } catch (const dai::UsageError& error) {  // the next may be shorter
          app.print(fmt::format("{}\n", error.what()));
        }
      }
    }
    const double tolerance = options.model.kv_dtype == "float32" ? 1e-3 : 0.2;
    if (asked == 0) return;  // nothing was proved
    app.check("max|log probability - without blocks|", off, tolerance);
    const EngineStats stats = model.engine().stats();
    app.check("blocks still owned",
              static_cast<double>(stats.blocks - stats.blocks_free), 0);
  });
}
