// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compression/wire_formula.h"

#include <stdexcept>

#include "ch02_hardware/canonical/canonical_tree.h"
#include "ch03_ddp/hooks/block_int8.h"
#include "ch03_ddp/hooks/powersgd_exchange.h"

namespace dai::ddp {
namespace {

using hardware::CanonicalTree;

class Adding {
 public:
  explicit Adding(int ranks) : n_(ranks) {}
  void all_reduce(double bytes) { add(bytes, 2 * (n_ - 1) / n_ * bytes); }
  void all_to_all(double bytes) { add(bytes, (n_ - 1) / n_ * bytes); }
  void all_gather(double bytes) { add(bytes, (n_ - 1) * bytes); }
  WireCost cost() const { return cost_; }

 private:
  void add(double handed, double sent) {
    cost_.handed += handed;
    cost_.sent += sent;
  }
  const double n_;
  WireCost cost_;
};

std::int64_t numbers_in(const std::vector<std::int64_t>& shape) {
  std::int64_t numbers = 1;
  for (const std::int64_t size : shape) numbers *= size;
  return numbers;
}

std::int64_t rounded_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

// Shipped by a rank, the mean of all.
double subtrees(std::int64_t microbatches, int ranks) {
  const CanonicalTree tree(CanonicalTree::even_owners(microbatches, ranks));
  double all = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    all += static_cast<double>(tree.subtrees_of(rank).size());
  }
  return all / ranks;
}

}  // namespace

WireCost wire_cost(const SyncOptions& options, const BucketShapes& buckets,
                   std::int64_t microbatches, int ranks) {
  const std::string& exchange = options.exchange;
  Adding wire(ranks);
  for (const auto& bucket : buckets) {
    std::int64_t numbers = 0, factors = 0;
    for (const auto& shape : bucket) {
      numbers += numbers_in(shape);
      factors += powersgd_numbers(shape, options.powersgd);
    }
    const std::int64_t slice = rounded_up(numbers, ranks) / ranks;
    if (exchange == "all_reduce") {
      wire.all_reduce(4.0 * static_cast<double>(numbers));
    } else if (exchange == "fp16" || exchange == "bf16") {
      wire.all_reduce(2.0 * static_cast<double>(numbers));
    } else if (exchange == "powersgd") {
      wire.all_reduce(4.0 * static_cast<double>(factors));
    } else if (exchange == "int8") {
      const auto part =
          static_cast<double>(int8_bytes(rounded_up(slice, kInt8Block)));
      wire.all_to_all(ranks * part);
      wire.all_gather(part);
    } else if (exchange == "canonical") {
      const double part = 4.0 * static_cast<double>(slice);
      wire.all_to_all(subtrees(microbatches, ranks) * ranks * part);
      wire.all_gather(part);
    } else {
      throw std::invalid_argument("no formula for exchange " + exchange);
    }
  }
  return wire.cost();
}

}  // namespace dai::ddp
