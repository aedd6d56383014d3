// SPDX-License-Identifier: Apache-2.0
#pragma once

// Initial weights as a pure function of (seed, parameter name, element). A
// rank that holds a shard computes just that shard and gets the bits that the
// whole tensor would have there; nothing is sent, no "seed checkpoint" is
// needed, and a different number of ranks starts from the same model.
//
//   std::vector<float> shard(1000);
//   fill_initial(config, "model.layers.3.mlp.up_proj.weight", /*seed=*/1234,
//                /*begin=*/5000, shard);
//
//   norms                    1
//   matrices, embeddings     deviation 0.02
//   o_proj and down_proj     0.02 / sqrt(2 layers): what they add to the
//                            residual stream shall not grow with depth
//                            (Radford et al.: GPT-2, 2019)
//
// The distribution is the sum of four uniform 16-bit integers, scaled: bell-
// shaped, cut off at 3.46 deviations like the truncated normals that others
// use. Sums of integers are exact and one multiplication rounds the same way
// everywhere, while a logarithm and a cosine (Box-Muller) would differ from
// one math library to the next.
//
// Elements count in row-major order of the whole parameter. Throws UsageError
// for a name that the config does not have, std::invalid_argument for a range
// outside the parameter. Torch-free.

#include <cstdint>
#include <span>
#include <string>

#include "ch01_intro/decoder/decoder_config.h"

namespace dai::intro {

// Elements begin .. begin + out.size() of the named parameter.
void fill_initial(const DecoderConfig& config, const std::string& name,
                  std::uint64_t seed, std::int64_t begin, std::span<float> out);

// The deviation that a parameter is drawn with; 0 for norms, which are 1.
double initial_deviation(const DecoderConfig& config, const std::string& name);

// The stream itself: element begin + i of `key`'s stream into out[i].
void fill_bell_shaped(std::uint64_t key, std::int64_t begin, double deviation,
                      std::span<float> out);

}  // namespace dai::intro
