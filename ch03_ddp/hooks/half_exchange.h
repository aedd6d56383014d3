// SPDX-License-Identifier: Apache-2.0
#pragma once

// Half the bytes: gradients travel as float16 or bfloat16 and are added up so.
// As fp16_compress_hook and bf16_compress_hook of torch.distributed, float16
// values are divided by the number of ranks first: a sum of N gradients must
// not leave a range that ends at 65504. bfloat16 has float32's range and 8 bits
// of mantissa, float16 has 11.
//
//   HalfExchange exchange(at::kBFloat16, group);

#include <memory>
#include <vector>

#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

class HalfExchange : public BucketExchange {
 public:
  // Throws std::invalid_argument unless dtype is kHalf or kBFloat16.
  HalfExchange(at::ScalarType dtype, ProcessGroup& group);
  ~HalfExchange() override;

  std::string name() const override {
    return dtype_ == at::kHalf ? "fp16" : "bf16";
  }
  void start(ReadyBucket bucket) override;
  void finish() override;

 private:
  struct Sent;
  const at::ScalarType dtype_;
  ProcessGroup& group_;
  std::vector<Sent> sent_;
};

}  // namespace dai::ddp
