// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_run/collective_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <thread>

#include "ch01_intro/sync/canonical_sum.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "common/report.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Values = std::function<double(std::int64_t i)>;

// What rank (or microbatch) r holds at i: below 97, and other than what the
// next 96 ranks hold there or this rank in the next 96 elements, so that a
// swapped rank or a shifted block cannot go unseen.
double value(std::int64_t r, std::int64_t i) {
  return (r * 31 + i * 7) % 97;
}

at::Tensor filled(std::int64_t count, at::Device device, const Values& at) {
  at::Tensor tensor = at::empty({count}, at::kFloat);
  for (std::int64_t i = 0; i < count; ++i) {
    tensor.data_ptr<float>()[i] = static_cast<float>(at(i));
  }
  return tensor.to(device);
}

double max_error(const at::Tensor& tensor, const Values& expected) {
  const at::Tensor flat = tensor.detach().cpu().reshape(-1);
  double worst = 0;
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    const double error = std::abs(flat.data_ptr<float>()[i] - expected(i));
    if (std::isnan(error)) return kInfinity;
    worst = std::max(worst, error);
  }
  return worst;
}

// One step over parameters whose gradient for microbatch m is known: the loss
// is sum(weight * c_m), so its gradient is c_m. With c_m = M * value(m, i) the
// mean over M microbatches is an integer again, and exact.
double gradient_mean_error(
    ProcessGroup& group, std::int64_t elements,
    const std::function<std::unique_ptr<GradientSync>(
        std::vector<NamedParameter>, std::int64_t microbatches)>& make) {
  constexpr std::int64_t kPerRank = 2;
  const std::int64_t microbatches = kPerRank * group.size();
  std::vector<NamedParameter> weights;
  for (int p = 0; p < 2; ++p) {
    at::Tensor zero = at::zeros({elements}, at::TensorOptions(group.device()));
    weights.push_back({fmt::format("weight{}", p), zero.requires_grad_(true)});
  }
  const auto sync = make(weights, microbatches);
  sync->begin_step();
  for (std::int64_t k = 0; k < kPerRank; ++k) {
    const Microbatch microbatch{group.rank() * kPerRank + k, k + 1 == kPerRank};
    sync->before_forward(microbatch);
    at::Tensor loss = at::zeros({}, at::TensorOptions(group.device()));
    for (int p = 0; p < 2; ++p) {
      loss = loss + (weights[p].tensor *
                     filled(elements, group.device(), [&](std::int64_t i) {
                       return microbatches * value(microbatch.id + p, i);
                     })).sum();
    }
    sync->before_backward(microbatch, loss);
    loss.backward();
    sync->after_backward(microbatch);
  }
  sync->finish_step();
  double worst = 0;
  for (int p = 0; p < 2; ++p) {
    const double error =
        max_error(weights[p].tensor.grad(), [&](std::int64_t i) {
          double sum = 0;
          for (std::int64_t m = 0; m < microbatches; ++m) {
            sum += value(m + p, i);
          }
          return sum;
        });
    worst = std::max(worst, error);
  }
  return worst;
}

// A barrier moves no values, but it orders: what every rank wrote before it,
// every rank must see after it. The last rank comes late on purpose. The count
// goes on from check to check, hence the remainder.
double barrier_error(ProcessGroup& group) {
  const char* const key = "ch01/arrived";
  if (group.rank() == group.size() - 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  group.store()->add(key, 1);
  group.barrier();
  return static_cast<double>(group.store()->add(key, 0) % group.size());
}

// Round the ring: to the right neighbour, from the left one. Even ranks send
// first and odd ones receive first, or all would wait for a receiver.
double ring_error(ProcessGroup& group, std::int64_t n) {
  const int rank = group.rank(), size = group.size();
  const int left = (rank + size - 1) % size, right = (rank + 1) % size;
  const at::Tensor mine =
      filled(n, group.device(), [&](std::int64_t i) { return value(rank, i); });
  at::Tensor received = at::empty_like(mine);
  if (rank % 2 == 0) group.send(mine, right);
  group.recv(received, left);
  if (rank % 2 == 1) group.send(mine, right);
  return max_error(received, [&](std::int64_t i) { return value(left, i); });
}

}  // namespace

std::vector<CollectiveRow> check_collectives(ProcessGroup& group,
                                             std::int64_t elements) {
  const int rank = group.rank(), size = group.size();
  const std::int64_t n = elements;
  const auto mine = [&](std::int64_t count) {
    return filled(count, group.device(),
                  [&](std::int64_t i) { return value(rank, i); });
  };
  const auto sum_at = [&](std::int64_t i) {
    double sum = 0;
    for (int r = 0; r < size; ++r) sum += value(r, i);
    return sum;
  };
  std::vector<CollectiveRow> rows;

  at::Tensor sum = mine(n);
  group.all_reduce(sum, ReduceOp::kSum);
  rows.push_back({"all_reduce sum", n, max_error(sum, sum_at)});

  at::Tensor highest = mine(n);
  group.all_reduce(highest, ReduceOp::kMax);
  rows.push_back({"all_reduce max", n, max_error(highest, [&](auto i) {
                    double most = value(0, i);
                    for (int r = 1; r < size; ++r) {
                      most = std::max(most, value(r, i));
                    }
                    return most;
                  })});

  double worst = 0;
  for (int root = 0; root < size; ++root) {
    at::Tensor copy = mine(n);
    group.broadcast(copy, root);
    worst = std::max(worst,
                     max_error(copy, [&](auto i) { return value(root, i); }));
  }
  rows.push_back({"broadcast from each rank", n, worst});

  rows.push_back({"all_gather", n,
                  max_error(group.all_gather(mine(n)),
                            [&](auto i) { return value(i / n, i % n); })});
  rows.push_back({"reduce_scatter sum", size * n,
                  max_error(group.reduce_scatter(mine(size * n)),
                            [&](auto i) { return sum_at(rank * n + i); })});
  rows.push_back({"all_to_all", size * n,
                  max_error(group.all_to_all(mine(size * n)), [&](auto i) {
                    return value(i / n, rank * n + i % n);
                  })});
  if (size > 1) rows.push_back({"send, recv ring", n, ring_error(group, n)});
  rows.push_back({"barrier", 0, barrier_error(group)});

  rows.push_back(
      {"mean by naive_ddp", n,
       gradient_mean_error(group, n, [&](auto weights, auto microbatches) {
         return std::make_unique<NaiveDdp>(weights, microbatches, &group);
       })});
  rows.push_back(
      {"mean by naive_canonical_sum", n,
       gradient_mean_error(group, n, [&](auto weights, auto microbatches) {
         return std::make_unique<CanonicalSync>(weights, microbatches, &group);
       })});

  // One rank's error is everybody's. Through the store rather than by an
  // all_reduce: a broken all_reduce must not hide itself.
  std::string errors;
  for (const auto& row : rows) errors += fmt::format("{} ", row.max_error);
  for (const std::string& theirs : group.gather_strings(errors)) {
    const char* text = theirs.c_str();
    for (auto& row : rows) {
      char* end = nullptr;
      row.errors.push_back(std::strtod(text, &end));
      row.max_error = std::max(row.max_error, row.errors.back());
      text = end;
    }
  }
  return rows;
}

std::string collective_table(const std::vector<CollectiveRow>& rows) {
  Table table({"collective", "elements", "max error"});
  for (const auto& row : rows) {
    table.add_row({row.name, fmt::format("{}", row.elements),
                   fmt::format("{:g}", row.max_error)});
  }
  return table.to_string();
}

double worst_error(const std::vector<CollectiveRow>& rows) {
  double worst = 0;
  for (const auto& row : rows) worst = std::max(worst, row.max_error);
  return worst;
}

}  // namespace dai::intro
