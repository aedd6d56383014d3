// SPDX-License-Identifier: Apache-2.0
#pragma once

// How many floating-point operations a training step of a decoder takes, from
// its configuration alone, twice:
//
//   analytic_flops()    what the kernels execute, product by product: equal to
//                       the last operation to what FlopCounter sees
//   flop_definitions()  what others divide by when they say MFU. They differ by
//                       a third and more for one and the same run, so a figure
//                       means nothing without the name of its definition.
//
//   const StepFlops flops = analytic_flops(config, batch, seq);
//   flops.total();                          // forward + backward
//   for (const FlopDefinition& d : flop_definitions(config, batch, seq))
//     mfu = d.flops / (step_s * peak_flops_per_s);
//
// A multiply-add is two operations. Only matrix products and attention count;
// elementwise work does not, here and in every definition. Torch-free.
// Errors: UsageError for a batch or seq below 1, and for a step of more than
// 2^63 operations (ask for one sequence and multiply).

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"

namespace dai::intro {

// What backward computes a second time because forward did not keep it.
enum class Recompute {
  kNothing,
  kAttention,  // the attention core ("selective", arXiv:2205.05198)
  kBlocks      // each block from its input ("full")
};

struct ExecutionChoices {
  // A flash kernel's backward computes the scores again: 5 products of the
  // size of q k^T where plain operators need 4.
  bool flash_attention = true;
  // The chunked loss computes its gradients in forward and throws the logits
  // away: the same three products, all of them in forward.
  bool head_gradient_in_forward = false;
  Recompute recompute = Recompute::kNothing;
};

struct FlopTerm {
  std::string name;  // "q_proj", "attention", "head": of all layers together
  std::int64_t forward = 0;
  std::int64_t backward = 0;   // the gradients' products
  std::int64_t recompute = 0;  // forward's, once more
};

struct StepFlops {
  std::vector<FlopTerm> terms;

  std::int64_t forward() const;
  std::int64_t backward() const;  // with what it recomputes
  std::int64_t total() const { return forward() + backward(); }
  const FlopTerm& term(const std::string& name) const;  // std::out_of_range
};

StepFlops analytic_flops(const DecoderConfig& config, std::int64_t batch,
                         std::int64_t seq,
                         const ExecutionChoices& choices = {});

// N parameters, L layers, H heads of size Q, h = H Q, T = seq.
struct FlopDefinition {
  std::string name;     // "palm": ends up in the keys of --json
  std::string formula;  // "6 N + 12 L H Q T a token"
  std::string source;   // paper or program that divides by it
  double flops = 0;     // of the whole step: batch x seq tokens
};

// 6 N + factor L (H Q) T: factor 12 is PaLM's, 6 (half of the scores) llm.c's.
double flops_per_token(double parameters, double layers, double heads_x_size,
                       double seq, double factor);

// In this order: "6n_no_embedding", "6n", "palm", "llm_c", "megatron",
// "megatron_causal", "hardware" (analytic_flops().total()).
std::vector<FlopDefinition> flop_definitions(
    const DecoderConfig& config, std::int64_t batch, std::int64_t seq,
    const ExecutionChoices& choices = {});

// A row a product, and a row a definition with its ratio to the last one.
std::string flops_table(const StepFlops& step);
std::string definitions_table(const std::vector<FlopDefinition>& definitions);

}  // namespace dai::intro
