// SPDX-License-Identifier: Apache-2.0
#pragma once

// In which numbers a training keeps what:
//
//   name           products  weights, gradients  optimizer  loss scaled
//   fp32           float32   float32             float32    no
//   fp32-nudged    the same, from weights of which one bit in each is another
//   bf16           bfloat16  float32             float32    no
//   fp16           float16   float32             float32    yes
//   fp16-unscaled  float16   float32             float32    no
//   bf16-weights   bfloat16  bfloat16            bfloat16   no
//   bf16-masters   bfloat16  bfloat16            float32    no
//   fp16-masters   float16   float16             float32    yes
//
// bf16 and fp16 are torch.autocast's way, in which gradients travel as float32;
// the last three have a model in half precision, whose gradients travel in half
// the bytes. fp32-nudged says how far two trainings part that no precision
// tells apart: a gap of its size means nothing.

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/trainer/autocast.h"

namespace dai::ddp {

struct Recipe {
  std::string name;
  intro::Precision autocast = intro::Precision::kFp32;
  at::ScalarType weights = at::kFloat;
  bool masters = false;  // the optimizer has float32 copies of the weights
  bool scaled = false;
  bool nudged = false;
};

// Weights, buckets of gradients, masters and theirs, the optimizer's two
// moments.
std::int64_t bytes_a_parameter(const Recipe& recipe);

const std::vector<Recipe>& recipes();
const Recipe& recipe(const std::string& name);  // UsageError lists them

}  // namespace dai::ddp
