// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/published_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ch01_intro/memory_plan/scale_plan.h"
#include "common/report.h"

namespace dai::intro {
namespace {

// The paper's example: 7.5 billion parameters on 64 devices, in GB.
double zero_example(int stage) {
  return zero_bytes(state_recipe("bf16-16"), 7'500'000'000, 64, stage) / 1e9;
}

// Bytes a parameter on each of so many data-parallel ranks.
double distributed_optimizer(const char* recipe, std::int64_t ranks) {
  constexpr std::int64_t kParameters = 1'000'000;
  return zero_bytes(state_recipe(recipe), kParameters, ranks, 1) / kParameters;
}

// Part of the activations that recomputing the attention core saves, percent.
double selective_saves(std::int64_t hidden, std::int64_t heads) {
  const DecoderConfig gpt{
      .name = "gpt", .hidden = hidden, .layers = 1, .heads = heads};
  const auto bytes = [&](Recompute recompute) {
    return static_cast<double>(
        megatron_activation_bytes(gpt, 1, 2048, recompute));
  };
  return 100 * (1 - bytes(Recompute::kAttention) / bytes(Recompute::kNothing));
}

}  // namespace

bool PublishedFigure::agrees() const {
  return std::abs(ours - published) <= last_digit / 2;
}

std::vector<PublishedFigure> published_figures() {
  const DecoderConfig llama = decoder_config("llama-405b");
  return {
      {"ZeRO", "7.5B on 64 devices, GB each", 120, 1, zero_example(0)},
      {"ZeRO", "stage 1", 31.4, 0.1, zero_example(1)},
      {"ZeRO", "stage 2", 16.6, 0.1, zero_example(2)},
      {"ZeRO", "stage 3", 1.9, 0.1, zero_example(3)},
      {"Megatron-LM", "bf16, 1 rank, bytes a parameter", 18, 1,
       distributed_optimizer("bf16-18", 1)},
      {"Megatron-LM", "bf16, 8 ranks: 6 + 12 / 8", 7.5, 0.1,
       distributed_optimizer("bf16-18", 8)},
      {"Megatron-LM", "fp16, 8 ranks: 4 + 16 / 8", 6, 1,
       distributed_optimizer("fp16-20", 8)},
      {"Korthikanti et al.", "GPT-3 175B, selective saves %", 70, 1,
       selective_saves(12288, 96)},
      {"Korthikanti et al.", "MT-NLG 530B, selective saves %", 65, 1,
       selective_saves(20480, 128)},
      // The report counts no attention: a sequence of one token.
      {"Llama 3", "405B on 15.6e12 tokens, 1e25 FLOP", 3.8, 0.1,
       training_flops_per_token(llama, 1) * 15.6e12 / 1e25},
  };
}

std::int64_t figures_off(const std::vector<PublishedFigure>& figures) {
  return std::count_if(figures.begin(), figures.end(),
                       [](const auto& figure) { return !figure.agrees(); });
}

std::string figures_table(const std::vector<PublishedFigure>& figures) {
  Table table({"published by", "what", "there", "here"});
  for (const PublishedFigure& figure : figures) {
    table.add_row({figure.source, figure.what,
                   fmt::format("{:g}", figure.published),
                   fmt::format("{:.4g}", figure.ours)});
  }
  return table.to_string();
}

}  // namespace dai::intro
