// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/scale_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kBf16 = 2;

std::string gb(std::int64_t bytes) {
  const double value = static_cast<double>(bytes) / 1e9;
  return value < 10 ? fmt::format("{:.3f}", value)
                    : fmt::format("{:.1f}", value);
}

std::string billions(std::int64_t count) {
  const auto value = static_cast<double>(count);
  return count < 1'000'000'000 ? fmt::format("{:.1f}M", value / 1e6)
                               : fmt::format("{:.2f}B", value / 1e9);
}

void require(bool holds, const char* what, double value) {
  if (!holds || !std::isfinite(value)) {
    throw UsageError(
        fmt::format("{} {}: a positive number is expected", what, value));
  }
}

std::string bytes_table(const std::vector<ScaleRow>& rows) {
  Table table({"GB", "parameters", "weights", "gradients", "optimizer",
               "activations", "with flash", "recomputed", "train"});
  for (const ScaleRow& row : rows) {
    table.add_row({row.config.name, billions(row.config.parameter_count()),
                   gb(row.states.parameters), gb(row.states.gradients),
                   gb(row.states.optimizer), gb(row.activations),
                   gb(row.without_attention), gb(row.recomputed),
                   gb(row.train_bytes())});
  }
  return table.to_string();
}

std::string devices_table(const std::vector<ScaleRow>& rows,
                          const ScaleAssumptions& assume) {
  std::vector<std::string> header = {"devices, at least", "train GB"};
  for (const double size : assume.device_gb) {
    header.push_back(fmt::format("of {:g} GB", size));
  }
  header.push_back("serve GB");
  for (const double size : assume.device_gb) {
    header.push_back(fmt::format("of {:g}", size));
  }
  Table table(header);
  for (const ScaleRow& row : rows) {
    std::vector<std::string> cells = {row.config.name};
    for (const std::int64_t bytes : {row.train_bytes(), row.serve_bytes()}) {
      cells.push_back(gb(bytes));
      for (const double size : assume.device_gb) {
        cells.push_back(fmt::format("{}", devices_for(bytes, size)));
      }
    }
    table.add_row(cells);
  }
  return table.to_string();
}

std::string kv_table(const std::vector<ScaleRow>& rows,
                     const ScaleAssumptions& assume) {
  const double largest =
      *std::max_element(assume.device_gb.begin(), assume.device_gb.end());
  Table table({"KV cache, bf16", "KiB a token", "tokens", "GB of the batch",
               fmt::format("tokens beside the weights on {:g} GB", largest)});
  for (const ScaleRow& row : rows) {
    const double room = largest * 1e9 - static_cast<double>(row.served_weights);
    const double fit =
        std::max(0.0, std::floor(room / static_cast<double>(row.kv_token)));
    table.add_row(
        {row.config.name,
         fmt::format("{:.1f}", static_cast<double>(row.kv_token) / 1024),
         fmt::format("{}", assume.batch * row.seq), gb(row.kv),
         fmt::format("{:.0f}", fit)});
  }
  return table.to_string();
}

std::string days_table(const std::vector<ScaleRow>& rows,
                       const ScaleAssumptions& assume) {
  Table table({"training", "FLOP a token", "FLOP", "device-days",
               "devices for 30 days"});
  for (const ScaleRow& row : rows) {
    table.add_row({row.config.name, fmt::format("{:.3g}", row.flops_per_token),
                   fmt::format("{:.3g}", row.flops_per_token * assume.tokens),
                   fmt::format("{:.0f}", row.device_days),
                   fmt::format("{:.0f}", std::ceil(row.device_days / 30))});
  }
  return table.to_string();
}

}  // namespace

void ScaleAssumptions::check() const {
  state_recipe(recipe);
  require(batch >= 1, "batch", static_cast<double>(batch));
  require(seq >= 1, "sequence", static_cast<double>(seq));
  require(tokens > 0, "tokens", tokens);
  require(mfu > 0 && mfu <= 1, "MFU (at most 1)", mfu);
  require(peak_tflops > 0, "peak TFLOP/s", peak_tflops);
  require(!device_gb.empty(), "device sizes", 0);
  for (const double size : device_gb) require(size > 0, "device GB", size);
}

std::vector<ScaleRow> scale_rows(const std::vector<std::string>& models,
                                 const ScaleAssumptions& assume) {
  assume.check();
  const StateRecipe recipe = state_recipe(assume.recipe);
  std::vector<ScaleRow> rows;
  for (const std::string& model : models) {
    ScaleRow row;
    row.config = decoder_config(model);
    const DecoderConfig& config = row.config;
    row.seq = std::min(assume.seq, config.max_positions);
    row.states = state_bytes(recipe, config.parameter_count());
    // The paper counts 16-bit elements.
    const auto activations = [&](Recompute recompute) {
      return megatron_activation_bytes(config, assume.batch, row.seq,
                                       recompute) *
             recipe.activation / kBf16;
    };
    row.activations = activations(Recompute::kNothing);
    row.without_attention = activations(Recompute::kAttention);
    row.recomputed = activations(Recompute::kBlocks);
    row.kv_token = kv_cache_bytes(config, 1, kBf16);
    row.kv = kv_cache_bytes(config, assume.batch * row.seq, kBf16);
    row.served_weights = kBf16 * config.parameter_count();
    row.flops_per_token = training_flops_per_token(config, row.seq);
    row.device_days = device_days(row.flops_per_token * assume.tokens,
                                  assume.peak_tflops * 1e12, assume.mfu);
    rows.push_back(row);
  }
  return rows;
}

std::string scale_tables(const std::vector<ScaleRow>& rows,
                         const ScaleAssumptions& assume) {
  return fmt::format(
      "Training, {}: {}. {} x {} tokens at most; activations after Korthikanti "
      "et al.: nothing recomputed, attention's weights (flash), all\n{}\n"
      "By memory alone, everything cut evenly: states and recomputed "
      "activations; bf16 weights and KV cache.\n{}\n{}\n"
      "{:g} tokens at {:g} of {:g} TFLOP/s\n{}",
      assume.recipe, state_recipe(assume.recipe).what, assume.batch, assume.seq,
      bytes_table(rows), devices_table(rows, assume), kv_table(rows, assume),
      assume.tokens, assume.mfu, assume.peak_tflops, days_table(rows, assume));
}

nlohmann::ordered_json scale_json(const std::vector<ScaleRow>& rows,
                                  const ScaleAssumptions& assume) {
  nlohmann::ordered_json json;
  for (const ScaleRow& row : rows) {
    json["bytes"][row.config.name] = {
        {"weights", row.states.parameters},
        {"gradients", row.states.gradients},
        {"optimizer", row.states.optimizer},
        {"activations, recomputed", row.recomputed},
        {"activations", row.activations},
        {"KV cache", row.kv}};
  }
  for (const double size : assume.device_gb) {
    json["devices"][fmt::format("{:g} GB", size)] = size * 1e9;
  }
  return json;
}

std::vector<double> parse_device_gb(const std::string& text) {
  std::vector<double> sizes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    char* stop = nullptr;
    const double size = std::strtod(part.c_str(), &stop);
    if (part.empty() || *stop != '\0' || !(size > 0) || !std::isfinite(size)) {
      throw UsageError(fmt::format(
          "--device-gb {}: '{}' is no positive number; such as 8,24,80,141 is "
          "expected",
          text, part));
    }
    sizes.push_back(size);
    begin = end + 1;
  }
  return sizes;
}

}  // namespace dai::intro
