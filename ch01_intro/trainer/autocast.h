// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mixed precision, as torch.autocast in Python: inside the guard, matrix
// products take bfloat16 or float16 inputs (casts of weights are cached until
// the outermost guard ends) while reductions such as softmax stay in float32;
// the weights themselves and their gradients are float32. LibTorch has the
// switches but no guard for them.
//
//   {
//     Autocast guard(Precision::kBf16, device);
//     loss = decoder.loss(tokens, targets);
//   }
//   loss.backward();  // outside: backward follows the forward's dtypes
//
// With kFp32 the guard turns autocast off, also inside another guard. Guards
// nest; each restores what it found. Per thread, as in PyTorch.
// bfloat16 needs no loss scaling: it has float32's exponent. float16 does
// (ch03_ddp/precision/grad_scaler.h), and the fused decoder operators refuse
// it.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace dai::intro {

enum class Precision { kFp32, kBf16, kFp16 };

// "fp32", "bf16" or "fp16"; UsageError for anything else.
Precision precision_from_string(const std::string& name);
const char* to_string(Precision precision);

class Autocast {
 public:
  Autocast(Precision precision, at::Device device);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_type_;
  bool was_enabled_;
  at::ScalarType old_dtype_;
};

}  // namespace dai::intro
