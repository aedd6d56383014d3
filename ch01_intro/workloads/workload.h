// SPDX-License-Identifier: Apache-2.0
#pragma once

// One model, three kinds of work. What differs is how often a weight is used
// once it has been fetched:
//
//   training step   every weight serves all tokens of the batch, forward and
//                   twice backward; then the optimizer streams its states
//   prefill         a prompt's tokens at once: forward only
//   decode          one token a sequence: each weight is fetched for as many
//                   tokens as there are sequences in the batch
//
// The bytes are those of weights, optimizer states, saved activations and the
// KV cache, each as often as this decoder's work needs it, as if nothing else
// passed between memory and the arithmetic units (logits do, in an
// implementation that writes them). The operations are analytic_flops(), with
// the head at every position and with what flash attention's backward computes
// again, but only the scores that a causal mask leaves: no kernel has to
// compute the others. All float32. Torch-free.
//
//   Workload w = decode_workload(config, /*batch=*/8, /*context=*/128);
//   w.flops / w.bytes                  // its arithmetic intensity

#include <cstdint>
#include <string>

#include "ch01_intro/decoder/decoder_config.h"
#include "ch01_intro/roofline/roofline.h"

namespace dai::intro {

struct Workload {
  std::string name;  // "training", "prefill", "decode"
  std::int64_t batch = 0;
  std::int64_t tokens = 0;  // that it moves forward
  std::int64_t flops = 0;
  std::int64_t bytes = 0;
  std::int64_t memory_bytes = 0;  // that it must hold

  double intensity() const {
    return static_cast<double>(flops) / static_cast<double>(bytes);
  }
};

// All throw UsageError for a batch, seq or context below 1.
Workload training_workload(const DecoderConfig& config, std::int64_t batch,
                           std::int64_t seq);
Workload prefill_workload(const DecoderConfig& config, std::int64_t batch,
                          std::int64_t seq);
// One new token behind `context` ones, in each of `batch` sequences.
Workload decode_workload(const DecoderConfig& config, std::int64_t batch,
                         std::int64_t context);

// Floats that backward needs of a layer for each token, with attention that
// does not keep its scores: x and its norm twice, q, k, v, the attention's
// output, and SwiGLU's gate, up and product.
std::int64_t saved_floats_per_token(const DecoderConfig& config);

}  // namespace dai::intro
