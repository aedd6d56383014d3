// SPDX-License-Identifier: Apache-2.0
#pragma once

// What both rungs of decoder_ops.h ask of their inputs, said in one line.
// Throw std::invalid_argument, check_targets UsageError.

#include "ch01_intro/decoder/decoder_ops.h"

namespace dai::intro {

void check_rms_norm(const at::Tensor& x, const at::Tensor& weight);
void check_rope(const at::Tensor& x, const RopeTable& table);
void check_swiglu(const at::Tensor& gate, const at::Tensor& up);
// Shapes and types of token_loss's inputs.
void check_token_loss(const at::Tensor& hidden, const at::Tensor& head,
                      const at::Tensor& targets);
// Each target is kIgnoredTarget or in [0, vocab). Of CUDA targets it needs a
// copy on the CPU, and so waits for the device.
void check_targets(const at::Tensor& targets, std::int64_t vocab);

}  // namespace dai::intro
