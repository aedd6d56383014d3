// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/layer_work.h"

#include <fmt/format.h>

#include <utility>

#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kElementBytes = 4;
constexpr std::int64_t kTokenBytes = 8;

class Layers {
 public:
  Layers(const DecoderConfig& config, const LayerShapes& shapes)
      : config_(config),
        shapes_(shapes),
        tokens_(shapes.batch * shapes.sequence) {}

  // Elements moved, and touched at least once.
  void add(const std::string& name, std::int64_t flops, std::int64_t moved,
           std::int64_t touched, std::int64_t calls, std::int64_t count,
           std::int64_t exponentials = 0) {
    list_.push_back({.work = {.name = name,
                              .flops = flops,
                              .bytes = kElementBytes * moved,
                              .working_set_bytes = kElementBytes * touched,
                              .exponentials = exponentials,
                              .calls = calls},
                     .count = count});
  }

  void linear(const std::string& name, std::int64_t in, std::int64_t out) {
    const std::int64_t elements = tokens_ * in + in * out + tokens_ * out;
    add(name, 2 * tokens_ * in * out, elements, elements, 1, config_.layers);
    list_.back().product_flops = list_.back().work.flops;
  }

  void rms_norm(const std::string& name, std::int64_t count) {
    const std::int64_t x = tokens_ * config_.hidden;
    add(name, 4 * x, (shapes_.fused ? 2 : 7) * x, (shapes_.fused ? 2 : 4) * x,
        shapes_.fused ? 1 : 6, count);
  }

  void rope(const std::string& name, std::int64_t heads) {
    const std::int64_t x = tokens_ * heads * config_.head_dim();
    add(name, 3 * x, (shapes_.fused ? 2 : 9) * x, (shapes_.fused ? 2 : 3) * x,
        shapes_.fused ? 1 : 7, config_.layers);
  }

  void attention() {
    const std::int64_t s = shapes_.sequence;
    const std::int64_t scores =
        shapes_.batch * config_.heads * (s * (s + 1) / 2);
    const std::int64_t q = tokens_ * config_.hidden;
    const std::int64_t kv = tokens_ * config_.kv_heads * config_.head_dim();
    add("attention", 4 * config_.head_dim() * scores, 2 * q + 2 * kv,
        2 * q + 2 * kv, 1, config_.layers, scores);
  }

  void residual(const std::string& name) {
    const std::int64_t x = tokens_ * config_.hidden;
    add(name, x, 3 * x, 3 * x, 1, config_.layers);
  }

  void swiglu() {
    const std::int64_t x = tokens_ * config_.ffn;
    add("swiglu", 2 * x, (shapes_.fused ? 3 : 5) * x,
        (shapes_.fused ? 3 : 4) * x, shapes_.fused ? 1 : 2, config_.layers, x);
  }

  void embedding() {
    const std::int64_t x = tokens_ * config_.hidden;
    add("embedding", 0, 2 * x + tokens_ * kTokenBytes / kElementBytes, 2 * x, 1,
        1);
  }

  void head_and_loss() {
    const std::int64_t logits = tokens_ * config_.vocab_size;
    const std::int64_t in =
        tokens_ * config_.hidden + config_.vocab_size * config_.hidden;
    add("head and loss", 2 * logits * config_.hidden,
        in + (shapes_.fused ? 0 : 4 * logits),
        in + (shapes_.fused ? 0 : 2 * logits), shapes_.fused ? 1 : 3, 1,
        logits);
    list_.back().product_flops = list_.back().work.flops;
  }

  std::vector<LayerWork> run() {
    const std::int64_t h = config_.hidden;
    const std::int64_t kv = config_.kv_heads * config_.head_dim();
    embedding();
    rms_norm("input norm", config_.layers);
    linear("q_proj", h, h);
    linear("k_proj", h, kv);
    linear("v_proj", h, kv);
    rope("rope of q", config_.heads);
    rope("rope of k", config_.kv_heads);
    attention();
    linear("o_proj", h, h);
    residual("add attention");
    rms_norm("post-attention norm", config_.layers);
    linear("gate_proj", h, config_.ffn);
    linear("up_proj", h, config_.ffn);
    swiglu();
    linear("down_proj", config_.ffn, h);
    residual("add feed-forward");
    rms_norm("last norm", 1);
    head_and_loss();
    return std::move(list_);
  }

 private:
  const DecoderConfig& config_;
  const LayerShapes& shapes_;
  const std::int64_t tokens_;
  std::vector<LayerWork> list_;
};

}  // namespace

std::vector<LayerWork> decoder_layers(const DecoderConfig& config,
                                      const LayerShapes& shapes) {
  config.check();
  if (shapes.batch < 1 || shapes.sequence < 1 ||
      shapes.sequence > config.max_positions) {
    throw UsageError(
        fmt::format("{} x {} tokens: at least 1 x 1, at most {} "
                    "positions",
                    shapes.batch, shapes.sequence, config.max_positions));
  }
  return Layers(config, shapes).run();
}

}  // namespace dai::intro
