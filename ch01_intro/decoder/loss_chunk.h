// SPDX-License-Identifier: Apache-2.0
#pragma once

// How the fused loss cuts its work (decoder_ops.h: token_loss). Torch-free: the
// kernels follow it, and a memory plan foretells what they will hold.
//
//   loss_chunk_tokens(50304, kCpuLossBytes);   // tokens of logits at a time

#include <algorithm>
#include <cstdint>

namespace dai::intro {

// Tokens in one task's matrix products on the CPU.
inline constexpr std::int64_t kTokenBlock = 64;
// Vocabulary entries in one task's share of the head's gradient.
inline constexpr std::int64_t kVocabBlock = 1024;

// Bytes of float32 logits held at once. On the CPU 16 MiB, for an L3 cache of
// 32: from 8 to 16 MiB made no difference on one, and more tokens make more
// tasks. A GPU wants fewer and larger kernels.
inline constexpr std::int64_t kCpuLossBytes = std::int64_t{16} << 20;
inline constexpr std::int64_t kCudaLossBytes = std::int64_t{256} << 20;

// Tokens whose logits are held at once, the same for a shape on any machine
// and any number of threads: it decides the order of the head gradient's sum.
// A multiple of kTokenBlock, from kTokenBlock to 4096.
inline std::int64_t loss_chunk_tokens(std::int64_t vocab, std::int64_t bytes) {
  const std::int64_t rows = bytes / (4 * std::max<std::int64_t>(vocab, 1));
  return std::clamp<std::int64_t>(rows / kTokenBlock * kTokenBlock, kTokenBlock,
                                  4096);
}

}  // namespace dai::intro
