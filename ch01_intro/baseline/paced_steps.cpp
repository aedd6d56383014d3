// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/paced_steps.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <span>
#include <string>

#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/language_task.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/timer.h"

namespace dai::intro {
namespace {

std::int64_t steps_asked_for(const std::string& line) {
  std::size_t used = 0;
  std::int64_t steps = 0;
  try {
    steps = std::stoll(line, &used);
  } catch (const std::exception&) {
  }
  if (steps < 1 || used != line.size()) {
    std::string shown = line.substr(0, 40);
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < ' '; }, '?');
    throw UsageError(
        fmt::format("'{}': a number of steps, 1 or more, a line",
                    shown.size() < line.size() ? shown + "..." : shown));
  }
  return steps;
}

}  // namespace

void write_windows(const TokenCorpus& corpus, const BaselineOptions& options,
                   const std::string& path) {
  AtomicFile file(path);
  TokenCorpus::Request request{.microbatches = options.microbatches,
                               .samples = options.samples};
  const std::int64_t steps = options.trainer.schedule.total_steps;
  for (; request.step < steps; ++request.step) {
    for (request.microbatch = 0; request.microbatch < request.microbatches;
         ++request.microbatch) {
      for (std::int64_t sample = 0; sample < request.samples; ++sample) {
        const std::int64_t first = corpus.window_begin(
            CorpusSplit::kTrain, corpus.window_of(request, sample));
        file.write(std::as_bytes(
            std::span(corpus.tokens()).subspan(first, corpus.window() + 1)));
      }
    }
  }
  file.commit();
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

std::int64_t serve_paced_steps(const Decoder& decoder,
                               const TokenCorpus& corpus,
                               const BaselineOptions& options,
                               at::Device device, std::istream& in,
                               std::ostream& out) {
  TrainerOptions trainer_options = options.trainer;
  trainer_options.microbatches = options.microbatches;
  trainer_options.schedule = {.peak = options.trainer.schedule.peak,
                              .total_steps = 1,
                              .floor_fraction = 1};
  LanguageTask task(
      decoder, corpus,
      {.microbatches = options.microbatches, .samples = options.samples},
      device);
  NaiveDdp sync(decoder.parameters(), options.microbatches, nullptr);
  WholeParameters view(decoder.parameters());
  Trainer trainer(task, sync, view, nullptr, trainer_options, device);
  const DecoderConfig& config = decoder.config();
  const nlohmann::ordered_json sizes = {
      {"vocab_size", config.vocab_size}, {"hidden", config.hidden},
      {"layers", config.layers},         {"heads", config.heads},
      {"kv_heads", config.kv_heads},     {"ffn", config.ffn}};
  out << nlohmann::ordered_json{{"decoder", sizes}}.dump() << std::endl;
  for (std::string line; std::getline(in, line);) {
    nlohmann::json answer;
    for (std::int64_t left = steps_asked_for(line); left > 0; --left) {
      const WallTimer wall;
      answer["loss"] = trainer.step().loss;
      answer["step_ms"].push_back(wall.ms());
    }
    answer["peak_rss_bytes"] = peak_rss_bytes();
    out << answer.dump() << std::endl;
  }
  return trainer.steps_done();
}

}  // namespace dai::intro
