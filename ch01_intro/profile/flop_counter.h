// SPDX-License-Identifier: Apache-2.0
#pragma once

// Counts the floating-point operations of what really ran, forward and
// backward, from the shapes with which PyTorch's dispatcher called each
// operator. Kineto's own count leaves out attention: 0 for
// scaled_dot_product_attention.
//
//   FlopCounter counter;
//   loss = decoder.loss(tokens, targets);
//   loss.backward();
//   std::int64_t flops = counter.total();
//
// One multiply-add is two operations. Counted are the operators in which
// decoders spend theirs, each at the level where it is dispatched once:
//
//   mm, addmm, mv, addmv, dot        2 m k n        [m, k] x [k, n]
//   mkldnn::_linear_pointwise        2 m k n        [m, k] x [n, k]
//   bmm, baddbmm                     2 b m k n
//   convolution                      2 n c_out h w ... (c_in / groups) kernel
//   convolution_backward             the same again for each gradient asked for
//   fused attention                  2 b h s t (d + d_v)
//   fused attention, backward        2 b h s t (3 d + 2 d_v): scores again,
//                                    then dV, dP, dQ, dK
//
// Elementwise work and reductions are not counted, as in every published MFU.
// A causal mask halves what attention needs; the kernels' shapes do not show
// it, so `attention` is kept apart for a reader who wants to halve it.
// An operator that multiplies matrices and has no rule here is named by
// unknown(): a count with such a name in it is too low and must not be used.
//
// Counts calls of all threads of the process between construction and
// destruction. One at a time (std::logic_error), one owner; no other thread may
// run PyTorch operators while a counter is made or destroyed (RecordFunction's
// own rule).

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace dai::intro {

struct OperatorFlops {
  std::int64_t calls = 0;
  std::int64_t flops = 0;
};

class FlopCounter {
 public:
  FlopCounter();
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  std::int64_t total() const;
  // The part of total() inside fused attention.
  std::int64_t attention() const;
  // "aten::mm" and what it did.
  std::map<std::string, OperatorFlops> by_operator() const;
  std::vector<std::string> unknown() const;

  // From here on counts from zero.
  void reset();

 private:
  struct Tally;
  std::unique_ptr<Tally> tally_;
  std::uint64_t handle_ = 0;
};

}  // namespace dai::intro
