// SPDX-License-Identifier: Apache-2.0
#pragma once

// A quarter of the bytes, and little lost: block-wise int8 (block_int8.h) with
// error feedback, as 1-bit Adam has it (Tang et al., 2021). What rounding took
// from a gradient is added to the next one, so that it arrives later and not
// never.
//
//   start()   x = gradient + my error; q = int8(x); my error = x - q;
//             all_to_all: slice r of q goes to rank r
//   finish()  s = sum of the slices + the slice's error; q' = int8(s);
//             the slice's error = s - q'; all_gather of q'
//
// An all_reduce of int8 would not do: sums leave 8 bits, and ranks have other
// scales.
//
//   Int8Exchange exchange(group);                 // error_feedback = true
//
// Bytes sent, over a float32 all_reduce's: (1 + 4 / 256) / 4. Keeps one float32
// copy of the gradients, and a rank's share of another. A gradient that is not
// finite arrives as NaN, and leaves no error behind. Errors are kept by
// bucket: when buckets are filled anew, after the first step, they start at
// zero.

#include <vector>

#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

class Int8Exchange : public BucketExchange {
 public:
  explicit Int8Exchange(ProcessGroup& group, bool error_feedback = true);
  ~Int8Exchange() override;

  std::string name() const override {
    return feedback_ ? "int8" : "int8 without error feedback";
  }
  // bucket.flat: float32 (std::invalid_argument).
  void start(ReadyBucket bucket) override;
  void finish() override;

 private:
  struct Residual {
    std::vector<std::size_t> parameters;  // whose it is
    at::Tensor mine;   // [ranks, slice]: what my rounding took
    at::Tensor slice;  // [1, slice]: what that of my slice's sum took
  };
  struct Sent;
  Residual& residual_of(const ReadyBucket& bucket, std::int64_t slice);

  ProcessGroup& group_;
  const bool feedback_;
  std::vector<Residual> residuals_;  // [bucket]
  std::vector<Sent> sent_;
};

}  // namespace dai::ddp
