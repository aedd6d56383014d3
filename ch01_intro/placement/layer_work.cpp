// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/layer_work.h"

#include <fmt/format.h>

#include <utility>

#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kElementBytes = 4;
constexpr std::int64_t kTokenBytes = 8;
// glibc keeps freed blocks up to this size for the next tensor, and gives
// larger ones back to the system, which clears every page of the next one.
constexpr std::int64_t kKeptBytes = std::int64_t{32} << 20;

class Layers {
 public:
  Layers(const DecoderConfig& config, const LayerShapes& shapes)
      : config_(config),
        shapes_(shapes),
        tokens_(shapes.batch * shapes.sequence) {}

  struct Amounts {
    std::int64_t flops = 0, exponentials = 0;
    std::int64_t moved = 0, touched = 0;   // elements
    std::int64_t outputs = 1, output = 0;  // tensors, elements of each
    std::int64_t calls = 1;
  };

  void add(const std::string& name, std::int64_t count, const Amounts& a) {
    Work work{.name = name,
              .flops = a.flops,
              .bytes = kElementBytes * a.moved,
              .working_set_bytes = kElementBytes * a.touched,
              .exponentials = a.exponentials,
              .calls = a.calls};
    if (kElementBytes * a.output > kKeptBytes) {
      work.fresh_bytes = kElementBytes * a.outputs * a.output;
    }
    list_.push_back({.work = work, .count = count});
  }

  void linear(const std::string& name, std::int64_t in, std::int64_t out) {
    const std::int64_t elements = tokens_ * in + in * out + tokens_ * out;
    add(name, config_.layers,
        {.flops = 2 * tokens_ * in * out,
         .moved = elements,
         .touched = elements,
         .output = tokens_ * out});
    list_.back().product_flops = list_.back().work.flops;
  }

  void rms_norm(const std::string& name, std::int64_t count) {
    const std::int64_t x = tokens_ * config_.hidden;
    const bool fused = shapes_.fused;
    add(name, count,
        {.flops = 4 * x,
         .moved = (fused ? 2 : 7) * x,
         .touched = (fused ? 2 : 4) * x,
         .outputs = fused ? 1 : 3,
         .output = x,
         .calls = fused ? 1 : 6});
  }

  void rope(const std::string& name, std::int64_t heads) {
    const std::int64_t x = tokens_ * heads * config_.head_dim();
    const bool fused = shapes_.fused;
    add(name, config_.layers,
        {.flops = 3 * x,
         .moved = (fused ? 2 : 9) * x,
         .touched = (fused ? 2 : 3) * x,
         .output = x,
         .calls = fused ? 1 : 7});
  }

  void attention() {
    const std::int64_t s = shapes_.sequence;
    const std::int64_t scores =
        shapes_.batch * config_.heads * (s * (s + 1) / 2);
    const std::int64_t q = tokens_ * config_.hidden;
    const std::int64_t kv = tokens_ * config_.kv_heads * config_.head_dim();
    add("attention", config_.layers,
        {.flops = 4 * config_.head_dim() * scores,
         .exponentials = scores,
         .moved = 2 * q + 2 * kv,
         .touched = 2 * q + 2 * kv,
         .output = q});
  }

  void residual(const std::string& name) {
    const std::int64_t x = tokens_ * config_.hidden;
    add(name, config_.layers,
        {.flops = x, .moved = 3 * x, .touched = 3 * x, .output = x});
  }

  void swiglu() {
    const std::int64_t x = tokens_ * config_.ffn;
    const bool fused = shapes_.fused;
    add("swiglu", config_.layers,
        {.flops = 2 * x,
         .exponentials = x,
         .moved = (fused ? 3 : 5) * x,
         .touched = (fused ? 3 : 4) * x,
         .outputs = fused ? 1 : 2,
         .output = x,
         .calls = fused ? 1 : 2});
  }

  void embedding() {
    const std::int64_t x = tokens_ * config_.hidden;
    const std::int64_t ids = tokens_ * kTokenBytes / kElementBytes;
    add("embedding", 1,
        {.moved = 2 * x + ids, .touched = 2 * x + ids, .output = x});
  }

  void head_and_loss() {
    const std::int64_t logits = tokens_ * config_.vocab_size;
    const std::int64_t in =
        tokens_ * config_.hidden + config_.vocab_size * config_.hidden;
    const bool fused = shapes_.fused;
    add("head and loss", 1,
        {.flops = 2 * logits * config_.hidden,
         .exponentials = logits,
         .moved = in + (fused ? 0 : 3 * logits),
         .touched = in + (fused ? 0 : 2 * logits),
         .outputs = 2,
         .output = fused ? 0 : logits,
         .calls = fused ? 1 : 3});
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
