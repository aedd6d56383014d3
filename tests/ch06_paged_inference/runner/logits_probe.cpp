// SPDX-License-Identifier: Apache-2.0
// Ours as a program, which Python compares with transformers: the model is the
// first argument; lines {"ids": [...], "tokens": n} in; a line {"ids": [...]}
// and the logits of every token, float32 as raw bytes, out.

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "ch06_paged_inference/engine/engine.h"
#include "ch06_paged_inference/engine/logits_processor.h"
#include "ch06_paged_inference/model_file/model_file.h"
#include "ch06_paged_inference/runner/torch_runner.h"

namespace {

using namespace dai::paged;

// Sees the logits of each draw and leaves them as they are.
class Recorder : public LogitsProcessor {
 public:
  void process(const Sequence&, std::span<float> logits) override {
    all.insert(all.end(), logits.begin(), logits.end());
  }
  std::vector<float> all;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto file = open_model(argv[1]);
  TorchRunner runner(*file, {.kv_blocks = 64});
  Engine engine({.scheduler = {.max_step_tokens = 16}}, runner);
  for (std::string line; std::getline(std::cin, line);) {
    const auto ask = nlohmann::json::parse(line);
    const auto recorder = std::make_shared<Recorder>();
    Request request;
    ask.at("ids").get_to(request.prompt);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = ask.at("tokens");
    request.sampling.processors = {recorder};
    std::vector<std::int32_t> tokens;
    request.on_output = [&](const Output& output) {
      tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
      if (!output.error.empty()) std::cerr << output.error << '\n';
    };
    engine.submit(request);
    while (engine.step()) {
    }
    std::cout << nlohmann::json{{"ids", tokens}}.dump() << '\n';
    std::cout.write(
        reinterpret_cast<const char*>(recorder->all.data()),
        static_cast<std::streamsize>(recorder->all.size() * sizeof(float)));
    std::cout.flush();
  }
}
