// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/powersgd_exchange.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/counter_random.h"
#include "ch03_ddp/hooks/orthogonalize.h"
#include "common/errors.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

using Work = c10::intrusive_ptr<::c10d::Work>;

struct Matrix {
  std::int64_t n = 1, m = 1;
};

Matrix matrix_of(at::IntArrayRef shape) {
  Matrix matrix;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    (i == 0 ? matrix.n : matrix.m) *= shape[i];
  }
  return matrix;
}

std::int64_t rank_of(const Matrix& matrix, const PowerSgdOptions& options) {
  return std::min({matrix.n, matrix.m, options.rank});
}

// Several tensors side by side in one, and as parts of it again.
at::Tensor pack(const std::vector<at::Tensor>& parts) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& part : parts) flat.push_back(part.reshape({-1}));
  return at::cat(flat);
}

void unpack(const at::Tensor& packed, std::vector<at::Tensor>& parts) {
  std::int64_t offset = 0;
  for (at::Tensor& part : parts) {
    part = packed.narrow(0, offset, part.numel()).view(part.sizes());
    offset += part.numel();
  }
}

Work all_reduce(ProcessGroup& group, const at::Tensor& tensor) {
  std::vector<at::Tensor> tensors{tensor};
  return group.c10d()->allreduce(tensors);
}

}  // namespace

void PowerSgdOptions::check() const {
  if (rank < 1) {
    throw UsageError(fmt::format("PowerSGD of rank {}: at least 1", rank));
  }
  if (!(min_compression_rate > 0)) {
    throw UsageError(fmt::format(
        "PowerSGD: min_compression_rate {}: a positive number is expected",
        min_compression_rate));
  }
  if ((use_error_feedback || warm_start) && start_iter < 2) {
    throw UsageError(fmt::format(
        "PowerSGD: start_iter {}: at least 2 with error feedback or warm start",
        start_iter));
  }
}

bool powersgd_compresses(at::IntArrayRef shape,
                         const PowerSgdOptions& options) {
  if (shape.size() < 2) return false;
  const Matrix matrix = matrix_of(shape);
  const std::int64_t factors = (matrix.n + matrix.m) * rank_of(matrix, options);
  return static_cast<double>(factors) * options.min_compression_rate <
         static_cast<double>(matrix.n * matrix.m);
}

std::int64_t powersgd_numbers(at::IntArrayRef shape,
                              const PowerSgdOptions& options) {
  const Matrix matrix = matrix_of(shape);
  return powersgd_compresses(shape, options)
             ? (matrix.n + matrix.m) * rank_of(matrix, options)
             : matrix.n * matrix.m;
}

struct PowerSgdExchange::Sent {
  at::Tensor flat;
  Work whole = {};  // of the bucket as it is, before start_iter
  struct Factored {
    std::size_t parameter;
    at::Tensor gradient;  // a view of flat
    at::Tensor m;         // [n, m]: gradient and error
  };
  std::vector<Factored> factored = {};
  std::vector<at::Tensor> ps = {}, qs = {};
  std::vector<at::Tensor> rest = {};  // gradients that go as they are
  at::Tensor packed_ps = {}, packed_rest = {};
  Work ps_work = {}, rest_work = {};
};

PowerSgdExchange::PowerSgdExchange(const PowerSgdOptions& options,
                                   ProcessGroup& group)
    : options_((options.check(), options)), group_(group) {}
PowerSgdExchange::~PowerSgdExchange() = default;

std::string PowerSgdExchange::name() const {
  return fmt::format("powersgd rank {}", options_.rank);
}

at::Tensor PowerSgdExchange::next_q(std::size_t parameter,
                                    const at::Tensor& m) {
  const auto found = qs_.find(parameter);
  const std::int64_t rank = rank_of({m.size(0), m.size(1)}, options_);
  at::Tensor q = options_.warm_start && found != qs_.end()
                     ? found->second
                     : random_columns(parameter, m.size(1), rank, m.options());
  if (orthogonalize(q) == rank) return q;
  // A gradient of lower rank has left columns of zeros, which would stay so for
  // ever; the next gradient may need them.
  const at::Tensor empty = q.square().sum(0).eq(0);
  q.add_(random_columns(parameter, m.size(1), rank, m.options()).mul_(empty));
  orthogonalize(q);
  return q;
}

// Equal on all ranks.
at::Tensor PowerSgdExchange::random_columns(
    std::size_t parameter, std::int64_t rows, std::int64_t columns,
    const at::TensorOptions& options) const {
  at::Tensor random = at::empty({rows, columns}, at::kFloat);
  const std::uint64_t key = intro::stream_key(
      options_.seed, fmt::format("powersgd {} {}", parameter, step_));
  auto* const values = random.data_ptr<float>();
  for (std::int64_t i = 0; i < random.numel(); ++i) {
    values[i] = static_cast<float>(intro::uniform01(key, i)) - 0.5f;
  }
  return random.to(options);
}

void PowerSgdExchange::start(ReadyBucket bucket) {
  Sent sent{.flat = bucket.flat};
  if (step_ < options_.start_iter) {
    sent.whole = all_reduce(group_, sent.flat);
    sent_.push_back(std::move(sent));
    return;
  }
  for (std::size_t i = 0; i < bucket.parameters.size(); ++i) {
    const at::Tensor& gradient = bucket.gradients[i];
    if (!powersgd_compresses(gradient.sizes(), options_)) {
      sent.rest.push_back(gradient);
      continue;
    }
    const std::size_t parameter = bucket.parameters[i];
    at::Tensor m = gradient.reshape({gradient.size(0), -1}).clone();
    if (options_.use_error_feedback) {
      const auto error = errors_.find(parameter);
      if (error != errors_.end()) m.add_(error->second);
    }
    sent.ps.push_back(m.mm(next_q(parameter, m)));
    sent.factored.push_back({parameter, gradient, std::move(m)});
  }
  if (!sent.ps.empty()) {
    sent.packed_ps = pack(sent.ps);
    sent.ps_work = all_reduce(group_, sent.packed_ps);
  }
  if (!sent.rest.empty()) {
    sent.packed_rest = pack(sent.rest);
    sent.rest_work = all_reduce(group_, sent.packed_rest);
  }
  sent_.push_back(std::move(sent));
}

void PowerSgdExchange::finish() {
  std::vector<std::pair<at::Tensor, Work>> second;  // [bucket]: its Qs
  for (Sent& sent : sent_) {
    if (sent.whole) sent.whole->wait();
    second.emplace_back();
    if (!sent.ps_work) continue;
    sent.ps_work->wait();
    unpack(sent.packed_ps, sent.ps);
    for (std::size_t i = 0; i < sent.ps.size(); ++i) {
      orthogonalize(sent.ps[i]);
      sent.qs.push_back(sent.factored[i].m.t().mm(sent.ps[i]));
    }
    at::Tensor packed = pack(sent.qs);
    auto work = all_reduce(group_, packed);
    second.back() = {std::move(packed), std::move(work)};
  }
  for (std::size_t b = 0; b < sent_.size(); ++b) {
    Sent& sent = sent_[b];
    if (sent.rest_work) {
      sent.rest_work->wait();
      std::vector<at::Tensor> sums = sent.rest;
      unpack(sent.packed_rest, sums);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        sent.rest[i].copy_(sums[i]);
      }
    }
    if (!second[b].second) continue;
    second[b].second->wait();
    unpack(second[b].first, sent.qs);
    for (std::size_t i = 0; i < sent.factored.size(); ++i) {
      auto& [parameter, gradient, m] = sent.factored[i];
      const at::Tensor sum = sent.ps[i].mm(sent.qs[i].t());
      gradient.copy_(sum.view(gradient.sizes()));
      // A step that is not finite is lost; what is remembered must not be.
      if (!sum.isfinite().all().item<bool>()) {
        errors_.erase(parameter);
        qs_.erase(parameter);
        continue;
      }
      // Ranks share the approximation's sum; each keeps what its own part of
      // it has lost.
      if (options_.use_error_feedback) {
        errors_[parameter] = m.sub_(sum, 1.0 / group_.size());
      }
      if (options_.warm_start) qs_[parameter] = sent.qs[i].clone();
    }
  }
  if (!sent_.empty()) ++step_;
  sent_.clear();
}

}  // namespace dai::ddp
