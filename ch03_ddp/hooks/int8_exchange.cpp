// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/int8_exchange.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <stdexcept>
#include <utility>

#include "ch03_ddp/hooks/block_int8.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

struct Int8Exchange::Sent {
  at::Tensor flat;
  std::size_t bucket = 0;
  std::int64_t slice = 0;
  at::Tensor outgoing;  // [ranks, bytes of a slice]
  at::Tensor incoming;
  c10::intrusive_ptr<::c10d::Work> work = {};
};

namespace {

// Of a block that was not finite nothing is owed: the step is lost, and the
// next one must not be lost with it.
at::Tensor owed(at::Tensor error) {
  return error.nan_to_num_(/*nan=*/0, /*posinf=*/0, /*neginf=*/0);
}

}  // namespace

Int8Exchange::Int8Exchange(ProcessGroup& group, bool error_feedback)
    : group_(group), feedback_(error_feedback) {}
Int8Exchange::~Int8Exchange() = default;

Int8Exchange::Residual& Int8Exchange::residual_of(const ReadyBucket& bucket,
                                                  std::int64_t slice) {
  if (residuals_.size() <= bucket.index) residuals_.resize(bucket.index + 1);
  Residual& residual = residuals_[bucket.index];
  if (residual.parameters != bucket.parameters || !residual.mine.defined()) {
    residual = {bucket.parameters,
                at::zeros({group_.size(), slice}, bucket.flat.options()),
                at::zeros({1, slice}, bucket.flat.options())};
  }
  return residual;
}

void Int8Exchange::start(ReadyBucket bucket) {
  if (bucket.flat.scalar_type() != at::kFloat) {
    throw std::invalid_argument("Int8Exchange: float32 gradients");
  }
  const std::int64_t elements = bucket.flat.numel();
  const std::int64_t blocks = (elements + kInt8Block - 1) / kInt8Block;
  Sent sent{.flat = bucket.flat,
            .bucket = bucket.index,
            .slice = (blocks + group_.size() - 1) / group_.size() * kInt8Block,
            .outgoing = {},
            .incoming = {}};
  at::Tensor x = at::zeros({group_.size() * sent.slice}, bucket.flat.options());
  x.narrow(0, 0, elements).copy_(bucket.flat);
  x = x.view({group_.size(), sent.slice});
  Residual& residual = residual_of(bucket, sent.slice);
  if (feedback_) x.add_(residual.mine);
  sent.outgoing = pack_int8(x);
  if (feedback_) {
    residual.mine = owed(x.sub_(unpack_int8(sent.outgoing, sent.slice)));
  }
  sent.incoming = at::empty_like(sent.outgoing);
  std::vector<std::int64_t> even;
  sent.work =
      group_.c10d()->alltoall_base(sent.incoming, sent.outgoing, even, even);
  sent_.push_back(std::move(sent));
}

void Int8Exchange::finish() {
  struct Gathered {
    at::Tensor mine, all;
    c10::intrusive_ptr<::c10d::Work> work;
  };
  std::vector<Gathered> sums;
  for (Sent& sent : sent_) {
    sent.work->wait();
    at::Tensor sum = unpack_int8(sent.incoming, sent.slice).sum(0, true);
    at::Tensor& error = residuals_[sent.bucket].slice;
    if (feedback_) sum.add_(error);
    Gathered gathered{pack_int8(sum), {}, {}};
    if (feedback_) {
      error = owed(sum.sub_(unpack_int8(gathered.mine, sent.slice)));
    }
    gathered.all = at::empty({group_.size(), gathered.mine.size(1)},
                             gathered.mine.options());
    gathered.work = group_.c10d()->_allgather_base(gathered.all, gathered.mine);
    sums.push_back(std::move(gathered));
  }
  for (std::size_t i = 0; i < sent_.size(); ++i) {
    sums[i].work->wait();
    sent_[i].flat.copy_(unpack_int8(sums[i].all, sent_[i].slice)
                            .reshape({-1})
                            .narrow(0, 0, sent_[i].flat.numel()));
  }
  sent_.clear();
}

}  // namespace dai::ddp
