// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/analytic_flops.h"

#include <fmt/format.h>

#include <initializer_list>
#include <stdexcept>

#include "common/errors.h"
#include "common/report.h"

namespace dai::intro {
namespace {

std::int64_t multiplied(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  for (const std::int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) {
      throw UsageError(
          "a step of more than 2^63 operations: reckon one sequence and "
          "multiply");
    }
  }
  return product;
}

std::int64_t added(std::int64_t a, std::int64_t b) {
  if (__builtin_add_overflow(a, b, &a)) multiplied({INT64_MAX, 2});
  return a;
}

void check(const DecoderConfig& config, std::int64_t batch, std::int64_t seq) {
  config.check();
  if (batch < 1 || seq < 1) {
    throw UsageError(
        fmt::format("batch {} x seq {}: at least 1 x 1", batch, seq));
  }
}

// A weight's product forward; backward once for the gradient of its input and
// once for its own. The first layer's input needs one too: the embedding
// learns.
FlopTerm weight(const char* name, std::int64_t forward) {
  return {name, forward, multiplied({2, forward}), 0};
}

// "attention" of analytic_flops: q k^T and its softmax times v forward, the
// gradients of q, k, v and of the weights backward. The masked half is
// multiplied like the other: kernels save of it what fills a whole tile, and
// their shapes do not tell.
FlopTerm attention(const DecoderConfig& c, std::int64_t batch, std::int64_t seq,
                   const ExecutionChoices& choices) {
  const std::int64_t product =
      multiplied({2, c.layers, batch, c.heads, seq, seq, c.head_dim()});
  const int backward = choices.flash_attention ? 5 : 4;
  return {"attention", multiplied({2, product}),
          multiplied({backward, product}), 0};
}

// What Megatron counts: each product forward and twice backward, with the
// given share of the scores.
double every_product_thrice(const DecoderConfig& config, std::int64_t batch,
                            std::int64_t seq, double share_of_scores) {
  double flops = 0;
  for (const FlopTerm& term : analytic_flops(config, batch, seq).terms) {
    const double forward = static_cast<double>(term.forward);
    flops += 3 * forward * (term.name == "attention" ? share_of_scores : 1);
  }
  return flops;
}

}  // namespace

StepFlops analytic_flops(const DecoderConfig& config, std::int64_t batch,
                         std::int64_t seq, const ExecutionChoices& choices) {
  check(config, batch, seq);
  const auto per_layer = [&](std::int64_t in, std::int64_t out) {
    return multiplied({2, config.layers, batch, seq, in, out});
  };
  const std::int64_t kv = config.kv_heads * config.head_dim();
  StepFlops step;
  step.terms = {weight("q_proj", per_layer(config.hidden, config.hidden)),
                weight("k_proj", per_layer(config.hidden, kv)),
                weight("v_proj", per_layer(config.hidden, kv)),
                attention(config, batch, seq, choices),
                weight("o_proj", per_layer(config.hidden, config.hidden)),
                weight("gate_proj", per_layer(config.hidden, config.ffn)),
                weight("up_proj", per_layer(config.hidden, config.ffn)),
                weight("down_proj", per_layer(config.ffn, config.hidden))};
  for (FlopTerm& term : step.terms) {
    if (choices.recompute == Recompute::kBlocks ||
        (choices.recompute == Recompute::kAttention &&
         term.name == "attention")) {
      term.recompute = term.forward;
    }
  }
  FlopTerm head = weight(
      "head", multiplied({2, batch, seq, config.hidden, config.vocab_size}));
  if (choices.head_gradient_in_forward) {
    head.forward = added(head.forward, head.backward);
    head.backward = 0;
  }
  step.terms.push_back(std::move(head));
  return step;
}

std::int64_t StepFlops::forward() const {
  std::int64_t sum = 0;
  for (const FlopTerm& term : terms) sum = added(sum, term.forward);
  return sum;
}

std::int64_t StepFlops::backward() const {
  std::int64_t sum = 0;
  for (const FlopTerm& term : terms) {
    sum = added(sum, added(term.backward, term.recompute));
  }
  return sum;
}

const FlopTerm& StepFlops::term(const std::string& name) const {
  for (const FlopTerm& term : terms) {
    if (term.name == name) return term;
  }
  throw std::out_of_range("StepFlops: no term " + name);
}

double flops_per_token(double parameters, double layers, double heads_x_size,
                       double seq, double factor) {
  return 6 * parameters + factor * layers * heads_x_size * seq;
}

std::vector<FlopDefinition> flop_definitions(const DecoderConfig& config,
                                             std::int64_t batch,
                                             std::int64_t seq,
                                             const ExecutionChoices& choices) {
  check(config, batch, seq);
  // Doubles: N and tokens of the largest models pass 2^63, and nobody quotes an
  // MFU to 16 digits.
  const double tokens = static_cast<double>(batch) * static_cast<double>(seq);
  const double n = static_cast<double>(config.parameter_count());
  const double table = static_cast<double>(config.vocab_size) *
                       static_cast<double>(config.hidden);
  const double tables = config.tied_embeddings ? table : 2 * table;
  const auto with_scores = [&](double factor) {
    return tokens * flops_per_token(n, static_cast<double>(config.layers),
                                    static_cast<double>(config.hidden),
                                    static_cast<double>(seq), factor);
  };
  const double executed =
      static_cast<double>(analytic_flops(config, batch, seq, choices).total());
  return {
      {"6n_no_embedding", "6 (N - embeddings) a token",
       "scaling laws, arXiv:2001.08361", 6 * (n - tables) * tokens},
      {"6n", "6 N a token", "GPT-3, arXiv:2005.14165 table D.1",
       with_scores(0)},
      {"palm", "6 N + 12 L H Q T a token",
       "PaLM, arXiv:2204.02311 appendix B; picotron", with_scores(12)},
      {"llm_c", "6 N + 6 L h T a token", "llm.c, gpt2_estimate_mfu",
       with_scores(6)},
      {"megatron", "every product three times", "Megatron-LM, arXiv:2205.05198",
       every_product_thrice(config, batch, seq, 1)},
      {"megatron_causal", "the same with half of the scores",
       "Megatron-LM, num_floating_point_operations",
       every_product_thrice(config, batch, seq, 0.5)},
      {"hardware", "what the kernels execute (HFU)",
       "analytic_flops, equal to FlopCounter", executed}};
}

std::string flops_table(const StepFlops& step) {
  const auto giga = [](std::int64_t flops) {
    return fmt::format("{:.4f}", static_cast<double>(flops) / 1e9);
  };
  Table table({"GFLOP on paper", "forward", "backward", "recomputed"});
  for (const FlopTerm& term : step.terms) {
    table.add_row({term.name, giga(term.forward), giga(term.backward),
                   giga(term.recompute)});
  }
  table.add_row({"step", giga(step.forward()), giga(step.backward()), ""});
  return table.to_string();
}

std::string definitions_table(const std::vector<FlopDefinition>& definitions) {
  Table table({"definition", "GFLOP", "of what runs", "formula", "source"});
  for (const FlopDefinition& d : definitions) {
    table.add_row({d.name, fmt::format("{:.4f}", d.flops / 1e9),
                   fmt::format("{:.4f}", d.flops / definitions.back().flops),
                   d.formula, d.source});
  }
  return table.to_string();
}

}  // namespace dai::intro
