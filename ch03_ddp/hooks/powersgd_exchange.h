// SPDX-License-Identifier: Apache-2.0
#pragma once

// A gradient matrix is nearly of low rank, so send two thin factors instead of
// it (Vogels, Karimireddy, Jaggi: PowerSGD, NeurIPS 2019):
//
//   M [n, m] = gradient + what was lost last time
//   P = M Q                      all_reduce; n r numbers
//   P = orthonormal columns of P
//   Q = M' P                     all_reduce; m r numbers
//   gradient = P Q',             lost = M - P Q'
//
// One power iteration a step, which goes on from the last step's Q, so that the
// subspace follows the gradient; directions in which it had nothing are
// replaced by random ones. After a gradient that is not finite all of it begins
// anew.
//
//   PowerSgdExchange exchange({.rank = 4}, group);
//
// Options have the names and defaults of torch's PowerSGDState, and its rule: a
// parameter is compressed when (n + m) * rank * min_compression_rate < n * m,
// n its first dimension and m all others, rank at most either; the rest goes as
// it is, in one all_reduce a bucket. Bytes: powersgd_numbers().

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "ch03_ddp/exchange/bucket_exchange.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct PowerSgdOptions {
  std::int64_t rank = 1;
  std::int64_t start_iter = 1000;  // plain all_reduces before that step
  double min_compression_rate = 2;
  bool use_error_feedback = true;
  bool warm_start = true;
  std::uint64_t seed = 1234;  // of the first Q, equal on all ranks

  // UsageError; with error feedback or warm start, start_iter is at least 2,
  // since buckets are filled anew after the first step.
  void check() const;
};

// Is a parameter of that shape compressed?
bool powersgd_compresses(at::IntArrayRef shape, const PowerSgdOptions& options);
// How many numbers stand for a parameter on the wire, from start_iter on.
std::int64_t powersgd_numbers(at::IntArrayRef shape,
                              const PowerSgdOptions& options);

class PowerSgdExchange : public BucketExchange {
 public:
  PowerSgdExchange(const PowerSgdOptions& options, ProcessGroup& group);
  ~PowerSgdExchange() override;

  std::string name() const override;
  void start(ReadyBucket bucket) override;
  void finish() override;

 private:
  struct Sent;
  // The columns to multiply m [n, m] with.
  at::Tensor next_q(std::size_t parameter, const at::Tensor& m);
  at::Tensor random_columns(std::size_t parameter, std::int64_t rows,
                            std::int64_t columns,
                            const at::TensorOptions& options) const;

  const PowerSgdOptions options_;
  ProcessGroup& group_;
  std::int64_t step_ = 0;
  std::map<std::size_t, at::Tensor> errors_;  // by parameter: [n, m]
  std::map<std::size_t, at::Tensor> qs_;      // by parameter: [m, rank]
  std::vector<Sent> sent_;
};

}  // namespace dai::ddp
