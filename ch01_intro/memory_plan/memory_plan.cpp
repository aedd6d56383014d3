// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_plan/memory_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ch01_intro/decoder/loss_chunk.h"
#include "ch01_intro/trainer/squared_sum.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;
constexpr std::int64_t kBf16 = 2, kFloat = 4, kDouble = 8, kLong = 8;

class Writer {
 public:
  Writer(MemoryPlan& plan, const PlanSetup& setup)
      : plan_(plan), setup_(setup) {}

  void in(C category, const char* module, std::int64_t times = 1) {
    category_ = category;
    module_ = module;
    times_ = times;
  }
  void floats(const char* what, std::vector<std::int64_t> shape) {
    add(what, std::move(shape), "float32", kFloat);
  }
  // What matrix products and attention take: bfloat16 under autocast.
  void products(const char* what, std::vector<std::int64_t> shape) {
    setup_.bf16 ? add(what, std::move(shape), "bfloat16", kBf16)
                : floats(what, std::move(shape));
  }
  // An input that `count` projections share; autocast casts it for each anew.
  void shared_input(const char* what, std::int64_t count,
                    std::vector<std::int64_t> shape) {
    if (setup_.bf16) shape.insert(shape.begin(), count);
    products(what, std::move(shape));
  }
  void add(const char* what, std::vector<std::int64_t> shape, const char* type,
           std::int64_t bytes) {
    for (const std::int64_t size : shape) bytes *= size;
    plan_.lines.push_back({category_, module_, what,
                           fmt::format("[{}] {}", fmt::join(shape, ", "), type),
                           bytes, times_});
  }

 private:
  MemoryPlan& plan_;
  const PlanSetup& setup_;
  C category_{};
  const char* module_ = "";
  std::int64_t times_ = 1;
};

void plan_states(Writer& out, const PlanSetup& setup) {
  const DecoderConfig& config = setup.config;
  const std::int64_t count = config.parameter_count();
  const auto tensors = static_cast<std::int64_t>(config.parameters().size());
  out.in(C::kParameters, "model");
  out.floats("weights; a tied head is the embedding itself", {count});
  out.in(C::kGradients, "model");
  out.floats("one for each weight, until the next step begins", {count});
  out.in(C::kOptimizer, "AdamW");
  out.floats("m", {count});
  out.floats("v", {count});
  out.floats("steps done, a number for each parameter tensor", {tensors});
  out.in(C::kBuffers, "decoder");
  out.floats("rotary table: cos, sin",
             {2, config.max_positions, config.head_dim() / 2});
  out.in(C::kBuffers, "data");
  out.add("input tokens, targets", {2, setup.batch, setup.seq}, "int64", kLong);
}

// What backward needs of RMSNorm: y = x * r * w, r = 1 / rms(x).
void plan_norm(Writer& out, const PlanSetup& setup) {
  const std::int64_t tokens = setup.tokens(), hidden = setup.config.hidden;
  out.floats("norm: x, the residual stream before it", {tokens, hidden});
  out.floats("norm: 1 / rms, a number for each token", {tokens, 1});
  if (setup.rung == Rung::kNaive) {
    out.floats("norm: x / rms, for the weight's gradient", {tokens, hidden});
  }
}

void plan_block(Writer& out, const PlanSetup& setup) {
  const DecoderConfig& config = setup.config;
  const std::int64_t tokens = setup.tokens(), hidden = config.hidden;
  const std::int64_t kv = config.kv_heads * config.head_dim();
  plan_norm(out, setup);
  out.shared_input("q, k, v projections: their input", 3, {tokens, hidden});
  // Rotation keeps nothing of its input: its gradient is the rotation back.
  out.products("attention: q, rotated", {tokens, hidden});
  out.products("attention: k, rotated", {tokens, kv});
  out.products("attention: v", {tokens, kv});
  out.products("attention: its output, also o projection's input",
               {tokens, hidden});
  out.floats("attention: log-sum-exp instead of all the weights",
             {setup.batch, config.heads, setup.seq});
  plan_norm(out, setup);
  out.shared_input("gate, up projections: their input", 2, {tokens, hidden});
  if (setup.rung == Rung::kNaive) {  // computes in float32
    out.floats("SwiGLU: gate", {tokens, config.ffn});
    out.floats("SwiGLU: up", {tokens, config.ffn});
    out.floats("SwiGLU: silu(gate), for up's gradient", {tokens, config.ffn});
  } else {
    out.products("SwiGLU: gate", {tokens, config.ffn});
    out.products("SwiGLU: up", {tokens, config.ffn});
  }
  out.products("down projection: its input", {tokens, config.ffn});
  if (setup.bf16) {
    out.products("weights, cast for the products",
                 {2 * hidden * (hidden + kv) + 3 * hidden * config.ffn});
  }
}

void plan_head(Writer& out, const PlanSetup& setup) {
  const DecoderConfig& config = setup.config;
  const std::int64_t tokens = setup.tokens(), hidden = config.hidden;
  plan_norm(out, setup);
  if (setup.rung == Rung::kNaive) {
    out.products("logits: their input", {tokens, hidden});
    out.floats("loss: log-probabilities of the whole vocabulary",
               {tokens, config.vocab_size});
    out.floats("loss: how much the targets weigh together", {1});
    if (setup.bf16) {
      out.products("weights, cast for the product",
                   {config.vocab_size, hidden});
    }
  } else {
    // The head's gradient is made in forward too, and counts as what it is.
    out.floats("chunked loss: gradient of the hidden states", {tokens, hidden});
  }
  out.floats("loss / tokens, where backward begins", {1});
}

// The largest moment of each phase of a step that is not the first. Forward
// begins without gradients: those of the step before are gone.
void plan_peaks(MemoryPlan& plan, const PlanSetup& setup) {
  const DecoderConfig& config = setup.config;
  const bool fused = setup.rung == Rung::kFused;
  const std::int64_t tokens = setup.tokens();
  const std::int64_t tail = plan.states();
  const std::int64_t table = config.vocab_size * config.hidden * kFloat;
  const std::int64_t stream = tokens * config.hidden * kFloat;
  const std::int64_t row = config.vocab_size * kFloat;  // logits of a token
  const std::int64_t forward_end =
      tail - plan.total(C::kGradients) + plan.total(C::kActivations) +
      (fused ? table : 0);  // the head's gradient is there already

  // Under autocast the head has cast its input and lets the float32 one go.
  PlanPeak forward{"forward", "head: logits beside log-probabilities",
                   forward_end + tokens * row + (setup.bf16 ? stream : 0)};
  PlanPeak backward{"backward", "head: gradients of both",
                    forward_end + std::max(2 * tokens * row, table + stream)};
  if (fused) {
    const std::int64_t product = setup.bf16 ? kBf16 : kFloat;
    const std::int64_t chunk =
        std::min(tokens, loss_chunk_tokens(config.vocab_size, kCpuLossBytes));
    forward = {"forward", "head: logits of a chunk, the hidden states",
               forward_end + chunk * config.vocab_size * product + stream +
                   tokens * kFloat};
    if (setup.bf16) {
      // The head, cast, and one block of its gradient in both types.
      forward.bytes +=
          config.hidden *
          (config.vocab_size * kBf16 +
           std::min(config.vocab_size, kVocabBlock) * (kBf16 + kFloat));
    }
    // dgate, dup and their product's gradient, where the product itself and
    // the head's hidden states have gone; down's gradient is new.
    backward = {"backward", "last block: gradients inside SwiGLU",
                forward_end - stream +
                    (2 * tokens + config.hidden) * config.ffn * product};
  }
  // A tied table's gradient comes in two parts, from the head and from the
  // lookup. The second is added to the first, unless that is a transposed view
  // (plain operators in float32): then the sum takes a third place.
  std::int64_t parts = stream;
  if (config.tied_embeddings) {
    parts = table + (fused || setup.bf16 ? stream : std::max(table, stream));
  }
  const PlanPeak lookup{"backward", "embedding: parts of its gradient",
                        tail + parts};
  plan.peaks.push_back(forward);
  plan.peaks.push_back(backward.bytes > lookup.bytes ? backward : lookup);
  plan.peaks.push_back({"sync", "nothing beside the states", tail});
  // Clipping keeps a float64 for each block of a gradient.
  std::int64_t blocks = 0;
  for (const ParameterShape& parameter : config.parameters()) {
    blocks += (parameter.elements() + kNormBlock - 1) / kNormBlock;
  }
  plan.peaks.push_back(
      {"optimizer", "clipping: sums of squares", tail + blocks * kDouble});
}

// More than any line or sum of a plan, in numbers that cannot overflow: no
// value of a token is kept more than 32 times over, of a weight 16 times.
double bound_bytes(const PlanSetup& setup) {
  const DecoderConfig& c = setup.config;
  const auto f = [](std::int64_t size) { return static_cast<double>(size); };
  const double widths = f(c.layers) * (f(c.hidden) + f(c.heads) + f(c.ffn)) +
                        f(c.hidden) + f(c.vocab_size) + f(c.ffn);
  const double weights =
      f(c.hidden) * (f(c.layers) * (4 * f(c.hidden) + 3 * f(c.ffn) + 2) +
                     2 * f(c.vocab_size) + f(c.max_positions));
  return kFloat * (32 * f(setup.batch) * f(setup.seq) * widths + 16 * weights);
}

}  // namespace

Rung rung_from_string(const std::string& name) {
  if (name == "naive") return Rung::kNaive;
  if (name == "fused") return Rung::kFused;
  throw UsageError(fmt::format("rung {}: naive or fused is expected", name));
}

const char* to_string(Rung rung) {
  return rung == Rung::kNaive ? "naive" : "fused";
}

void PlanSetup::check() const {
  config.check();
  if (batch < 1 || seq < 1) {
    throw UsageError(fmt::format("batch {} and sequence {}: at least 1 of each",
                                 batch, seq));
  }
  if (seq > config.max_positions) {
    throw UsageError(
        fmt::format("sequences of {} tokens: decoder {} has {} positions", seq,
                    config.name, config.max_positions));
  }
  if (bound_bytes(*this) > std::ldexp(1.0, 62)) {
    throw UsageError(
        fmt::format("a step of {} with {} x {} tokens: more than 2^62 bytes",
                    config.name, batch, seq));
  }
}

std::int64_t MemoryPlan::total(MemoryCategory category) const {
  std::int64_t bytes = 0;
  for (const PlanLine& line : lines) {
    if (line.category == category) bytes += line.bytes * line.times;
  }
  return bytes;
}

std::int64_t MemoryPlan::states() const {
  return total(C::kParameters) + total(C::kGradients) + total(C::kOptimizer) +
         total(C::kBuffers);
}

const PlanPeak& MemoryPlan::peak() const {
  return *std::max_element(
      peaks.begin(), peaks.end(),
      [](const PlanPeak& a, const PlanPeak& b) { return a.bytes < b.bytes; });
}

MemoryPlan plan_memory(const PlanSetup& setup) {
  setup.check();
  MemoryPlan plan;
  Writer out(plan, setup);
  plan_states(out, setup);
  out.in(C::kActivations, "block", setup.config.layers);
  plan_block(out, setup);
  out.in(C::kActivations, "head");
  plan_head(out, setup);
  plan_peaks(plan, setup);
  return plan;
}

}  // namespace dai::intro
