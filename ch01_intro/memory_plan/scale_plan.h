// SPDX-License-Identifier: Apache-2.0
#pragma once

// Bytes, operations and days of models that do not fit here: the formulas of
// the papers, as functions of a DecoderConfig. Torch-free.
//
//   const StateRecipe recipe = state_recipe("bf16-18");
//   state_bytes(recipe, config.parameter_count()).total();
//   kv_cache_bytes(decoder_config("llama-8b"), 8192, 2);     // 1 GiB
//   device_days(15e12 * training_flops_per_token(config, 8192), 989e12, 0.4);
//
// Papers: ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054), selective
// recomputation (Korthikanti et al. 2022, arXiv:2205.05198), MFU (Chowdhery et
// al.: PaLM, arXiv:2204.02311).

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/profile/analytic_flops.h"

namespace dai::intro {

// Bytes of model state for one parameter, by what they are for.
struct StateRecipe {
  std::string name;
  std::string what;            // one line
  std::int64_t parameter = 0;  // what forward and backward read
  std::int64_t gradient = 0;
  std::int64_t optimizer = 0;   // moments, and master copies where there are
  std::int64_t activation = 0;  // bytes of one activation element

  std::int64_t per_parameter() const {
    return parameter + gradient + optimizer;
  }
};
// "fp32", "bf16-16", "bf16-18", "fp16-20". UsageError lists them.
StateRecipe state_recipe(const std::string& name);
std::vector<std::string> state_recipe_names();

struct StateBytes {
  std::int64_t parameters = 0, gradients = 0, optimizer = 0;
  std::int64_t total() const { return parameters + gradients + optimizer; }
};
StateBytes state_bytes(const StateRecipe& recipe, std::int64_t parameters);

// What each of `ranks` devices holds. ZeRO stage 0: everything; 1: a share of
// the optimizer; 2: of the gradients too; 3: of the parameters too.
double zero_bytes(const StateRecipe& recipe, std::int64_t parameters,
                  std::int64_t ranks, int stage);

// Activations of all layers of a microbatch of `batch` sequences of `seq`
// tokens, after Korthikanti et al., who count 16-bit elements of a GPT block:
// a layer keeps sbh (34 + 5 a s / h) bytes; 34 sbh where attention recomputes
// its weights (flash attention); 2 sbh where the whole block is recomputed.
std::int64_t megatron_activation_bytes(const DecoderConfig& config,
                                       std::int64_t batch, std::int64_t seq,
                                       Recompute recompute);

// Keys and values of `tokens` tokens in all layers.
std::int64_t kv_cache_bytes(const DecoderConfig& config, std::int64_t tokens,
                            std::int64_t element_bytes);

// Operations of training on one token, as PaLM counts them: 6 N + 12 L h seq
// (analytic_flops.h has the other definitions).
double training_flops_per_token(const DecoderConfig& config, std::int64_t seq);

// Days of one device that reaches `mfu` of `peak_flops` per second.
double device_days(double flops, double peak_flops, double mfu);

// The smallest number of devices whose memory together holds `bytes`: a lower
// bound, as if everything could be cut evenly and nothing else were kept.
std::int64_t devices_for(std::int64_t bytes, double device_gb);

}  // namespace dai::intro
