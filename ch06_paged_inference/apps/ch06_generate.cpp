// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "ch06_paged_inference/generate/generate_options.h"
#include "common/app.h"
#include "common/errors.h"

using namespace dai::paged;

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
    const SamplingParams sampling = options.chosen();
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
