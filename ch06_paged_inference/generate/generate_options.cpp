// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/generate_options.h"

#include <memory>

#include "ch06_paged_inference/extend/no_repeat_ngram.h"

namespace dai::paged {

void GenerateOptions::declare(OptionSet& set) {
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

SamplingParams GenerateOptions::chosen() const {
  SamplingParams params = sampling;
  if (!stop.empty()) params.stop = {stop};
  if (no_repeat > 0) {
    params.processors = {std::make_shared<NoRepeatNgram>(no_repeat)};
  }
  return params;
}

}  // namespace dai::paged
