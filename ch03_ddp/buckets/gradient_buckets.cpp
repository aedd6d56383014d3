// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/gradient_buckets.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "common/errors.h"

namespace dai::ddp {
namespace {

// Throws unless `indices` names each of the parameters once.
void check_permutation(const std::vector<std::size_t>& indices,
                       std::size_t parameters) {
  std::vector<bool> seen(parameters);
  for (const std::size_t index : indices) {
    if (index >= parameters || seen[index]) {
      throw std::invalid_argument(fmt::format(
          "parameter #{} of {} is not one, or comes twice", index, parameters));
    }
    seen[index] = true;
  }
  if (indices.size() != parameters) {
    throw std::invalid_argument(fmt::format("an order of {} for {} parameters",
                                            indices.size(), parameters));
  }
}

}  // namespace

void BucketCaps::check() const {
  if (first_bytes < 1 || bytes < 1) {
    throw UsageError(
        fmt::format("buckets of {} and {} bytes: at least 1 is expected",
                    first_bytes, bytes));
  }
}

BucketCaps BucketCaps::of_mib(double first, double rest) {
  const auto bytes = [](double mib) {
    if (!(mib > 0) || mib > 1e6) {
      throw UsageError(
          fmt::format("a bucket of {} MiB: above 0 and at most 1000000", mib));
    }
    return std::max<std::int64_t>(1,
                                  static_cast<std::int64_t>(mib * (1 << 20)));
  };
  return {bytes(first), bytes(rest)};
}

std::vector<std::size_t> expected_ready_order(std::size_t parameters) {
  std::vector<std::size_t> order(parameters);
  for (std::size_t i = 0; i < parameters; ++i) order[i] = parameters - 1 - i;
  return order;
}

BucketPlan plan_buckets(const std::vector<NamedParameter>& parameters,
                        const std::vector<std::size_t>& order,
                        const BucketCaps& caps) {
  caps.check();
  check_permutation(order, parameters.size());
  struct Open {
    std::size_t bucket;
    std::int64_t bytes;
  };
  // By what must not be mixed; each kind has a small first bucket of its own.
  using Kind = std::pair<at::ScalarType, at::Device>;
  const auto kind_less = [](const Kind& a, const Kind& b) {
    return std::tuple(a.first, a.second.type(), a.second.index()) <
           std::tuple(b.first, b.second.type(), b.second.index());
  };
  std::map<Kind, Open, decltype(kind_less)> open(kind_less);
  std::map<Kind, std::size_t, decltype(kind_less)> closed(kind_less);
  BucketPlan plan;
  for (const std::size_t index : order) {
    const at::Tensor& tensor = parameters[index].tensor;
    const Kind kind{tensor.scalar_type(), tensor.device()};
    auto found = open.find(kind);
    if (found == open.end()) {
      found = open.emplace(kind, Open{plan.size(), 0}).first;
      plan.emplace_back();
    }
    plan[found->second.bucket].push_back(index);
    found->second.bytes += static_cast<std::int64_t>(tensor.nbytes());
    const auto cap = closed[kind] == 0 ? caps.first_bytes : caps.bytes;
    if (found->second.bytes >= cap) {
      open.erase(found);
      ++closed[kind];
    }
  }
  return plan;
}

GradientBuckets::GradientBuckets(std::vector<NamedParameter> parameters,
                                 BucketPlan plan)
    : parameters_(std::move(parameters)), plan_(std::move(plan)) {
  std::vector<std::size_t> all;
  for (const auto& bucket : plan_) {
    all.insert(all.end(), bucket.begin(), bucket.end());
  }
  check_permutation(all, parameters_.size());
  views_.resize(parameters_.size());
  bucket_of_.resize(parameters_.size());
  for (const auto& bucket : plan_) {
    std::int64_t elements = 0;
    for (const std::size_t index : bucket) {
      elements += parameters_[index].tensor.numel();
    }
    const at::Tensor flat = at::empty(
        {elements},
        parameters_[bucket.front()].tensor.options().requires_grad(false));
    std::int64_t offset = 0;
    for (const std::size_t index : bucket) {
      const at::Tensor& tensor = parameters_[index].tensor;
      views_[index] = flat.narrow(0, offset, tensor.numel()).view_as(tensor);
      bucket_of_[index] = flats_.size();
      offset += tensor.numel();
    }
    flats_.push_back(flat);
  }
}

void GradientBuckets::take_gradient(std::size_t parameter) {
  at::Tensor& gradient = parameters_[parameter].tensor.mutable_grad();
  if (gradient.is_same(views_[parameter])) return;
  views_[parameter].copy_(gradient);
  gradient = views_[parameter];
}

}  // namespace dai::ddp
