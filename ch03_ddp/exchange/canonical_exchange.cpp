// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/exchange/canonical_exchange.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "ch01_intro/microbatches.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using hardware::CanonicalTree;
using hardware::Subtree;

namespace {

CanonicalTree even_tree(std::int64_t microbatches, int ranks) {
  intro::microbatches_of_rank(microbatches, 0, ranks);  // UsageError
  return CanonicalTree(CanonicalTree::even_owners(microbatches, ranks));
}

at::Tensor add(at::Tensor left, const at::Tensor& right) {
  return left.add_(right);
}

}  // namespace

struct CanonicalExchange::Sent {
  at::Tensor flat;           // where the sum goes
  at::Tensor outgoing = {};  // alive until it has gone
  at::Tensor incoming = {};  // [all ranks' subtrees, my slice], flat
  std::int64_t slice = 0;
  c10::intrusive_ptr<::c10d::Work> work = {};
};

CanonicalExchange::CanonicalExchange(std::size_t parameters,
                                     std::int64_t microbatches,
                                     ProcessGroup* group)
    : group_(group),
      ranks_(group ? group->size() : 1),
      rank_(group ? group->rank() : 0),
      tree_(even_tree(microbatches, ranks_)),
      kept_(parameters, hardware::SubtreeSums<at::Tensor>(tree_, rank_)) {
  for (int rank = 0; rank < ranks_; ++rank) {
    shipped_.push_back(tree_.subtrees_of(rank).size());
  }
}
CanonicalExchange::~CanonicalExchange() = default;

double CanonicalExchange::wire_factor() const {
  return tree_.wire_factor(rank_);
}

std::size_t CanonicalExchange::most_held() const {
  std::size_t most = 0;
  for (const auto& sums : kept_) most = std::max(most, sums.most_held());
  return most;
}

void CanonicalExchange::keep(std::size_t parameter, std::int64_t microbatch,
                             at::Tensor gradient) {
  kept_[parameter].add(microbatch, std::move(gradient), add);
}

void CanonicalExchange::start(ReadyBucket bucket) {
  Sent sent{.flat = bucket.flat};
  const std::int64_t elements = bucket.flat.numel();
  sent.slice = (elements + ranks_ - 1) / ranks_;
  // [subtrees, slice * ranks]: the last slice may reach over the end.
  at::Tensor partials = at::empty(
      {static_cast<std::int64_t>(shipped_[rank_]), sent.slice * ranks_},
      bucket.flat.options());
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < bucket.parameters.size(); ++i) {
    auto& sums = kept_[bucket.parameters[i]];
    const std::int64_t n = bucket.gradients[i].numel();
    std::int64_t row = 0;
    for (const at::Tensor* sum : sums.partials()) {
      partials[row++].narrow(0, offset, n).copy_(sum->reshape({-1}));
    }
    sums.clear();
    offset += n;
  }
  partials.narrow(1, elements, sent.slice * ranks_ - elements).zero_();
  if (group_ == nullptr) {
    sent.incoming = partials.reshape({-1});
    sent_.push_back(std::move(sent));
    return;
  }
  // Rank r's slice of all my subtrees, then rank r + 1's.
  sent.outgoing =
      partials.view({-1, ranks_, sent.slice}).transpose(0, 1).reshape({-1});
  std::vector<std::int64_t> to(ranks_, partials.size(0) * sent.slice), from;
  for (const std::size_t subtrees : shipped_) {
    from.push_back(static_cast<std::int64_t>(subtrees) * sent.slice);
  }
  sent.incoming =
      at::empty({std::accumulate(from.begin(), from.end(), std::int64_t{0})},
                bucket.flat.options());
  sent.work =
      group_->c10d()->alltoall_base(sent.incoming, sent.outgoing, from, to);
  sent_.push_back(std::move(sent));
}

void CanonicalExchange::finish() {
  std::vector<std::pair<at::Tensor, c10::intrusive_ptr<::c10d::Work>>> sums;
  for (Sent& sent : sent_) {
    if (sent.work) sent.work->wait();
    const at::Tensor rows = sent.incoming.view({-1, sent.slice});
    // Subtrees lie by rank and, of one rank, by first id, as the walk meets
    // them.
    std::int64_t row = 0;
    at::Tensor sum =
        tree_.walk<at::Tensor>([&](const Subtree&, int) { return rows[row++]; },
                               [](at::Tensor left, const at::Tensor& right) {
                                 return left.add_(right);
                               });
    if (group_ == nullptr) {
      sums.emplace_back(sum, nullptr);
      continue;
    }
    at::Tensor all = at::empty({sent.slice * ranks_}, sent.flat.options());
    auto work = group_->c10d()->_allgather_base(all, sum);
    sums.emplace_back(std::move(all), std::move(work));
  }
  for (std::size_t i = 0; i < sent_.size(); ++i) {
    auto& [sum, work] = sums[i];
    if (work) work->wait();
    sent_[i].flat.copy_(sum.narrow(0, 0, sent_[i].flat.numel()));
  }
  sent_.clear();
}

}  // namespace dai::ddp
