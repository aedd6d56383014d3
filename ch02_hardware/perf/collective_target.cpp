// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/collective_target.h"

#include <fmt/format.h>

#include "ch02_hardware/canonical/canonical_tree.h"
#include "ch02_hardware/canonical/fixed_point_sum.h"
#include "common/errors.h"

namespace dai::hardware {

bool is_canonical(const std::string& algorithm) {
  return algorithm == "canonical" || algorithm == "fixed_point";
}

DirectTarget::DirectTarget(Communicator& group, const std::string& algorithm)
    : group_(group), algorithm_(algorithm) {}

int DirectTarget::rank() const {
  return group_.transport().rank();
}
int DirectTarget::size() const {
  return group_.transport().size();
}

std::string DirectTarget::description() const {
  return fmt::format("dai over {}, algorithm {}", group_.transport().medium(),
                     algorithm_);
}

bool DirectTarget::offers(Collective what, bool in_place) const {
  return !(in_place && what == Collective::kAllToAll);
}

void DirectTarget::run_canonical(const Operands& o) {
  Transport& t = group_.transport();
  if (algorithm_ == "fixed_point") {
    const void* const row = o.input;
    return fixed_point_all_reduce(
        {&row, 1}, o.output, o.count, o.dtype, t.size(), t,
        group_.selector().choose(Collective::kAllReduce, o.count * 8));
  }
  const CanonicalTree tree(
      CanonicalTree::even_owners(kCanonicalMicrobatches, t.size()));
  if (zeros_.size() < o.bytes()) zeros_.assign(o.bytes(), std::byte{0});
  std::vector<const void*> partials(tree.subtrees_of(t.rank()).size(),
                                    zeros_.data());
  partials.front() = o.input;
  canonical_all_reduce(tree, partials, o.output, o.count, o.dtype, t);
}

void DirectTarget::run(Collective what, const Operands& operands) {
  if (algorithm_ == "auto") return group_.run(what, operands);
  if (what == Collective::kAllReduce && is_canonical(algorithm_)) {
    return run_canonical(operands);
  }
  const Algorithm& algorithm = algorithm_by_name(what, algorithm_);
  if (!algorithm.runs_on(operands.bytes(), group_.transport())) {
    throw UsageError(
        fmt::format("algorithm {} does not run over {} with {} bytes",
                    algorithm_, group_.transport().medium(), operands.bytes()));
  }
  algorithm.run(operands, group_.transport());
}

void* DirectTarget::allocate(std::size_t bytes) {
  buffers_.emplace_back(new std::byte[bytes]);
  return buffers_.back().get();
}
void DirectTarget::release() {
  buffers_.clear();
}
void DirectTarget::write(void* to, const void* from, std::size_t bytes) {
  copy_bytes(to, from, bytes);
}
void DirectTarget::read(void* to, const void* from, std::size_t bytes) {
  copy_bytes(to, from, bytes);
}

double DirectTarget::reduced(double mine, ReduceOp op) {
  double all = 0;
  Operands o;
  o.input = &mine;
  o.output = &all;
  o.count = 1;
  o.dtype = DType::kFloat64;
  o.op = op;
  algorithm_by_name(Collective::kAllReduce, "recursive_doubling")
      .run(o, group_.transport());
  return all;
}
double DirectTarget::sum(double mine) {
  return reduced(mine, ReduceOp::kSum);
}
double DirectTarget::largest(double mine) {
  return reduced(mine, ReduceOp::kMax);
}

CollectiveTime time_collective(CollectiveTarget& target, Collective what,
                               const Operands& operands, int warm_up,
                               int rounds) {
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < warm_up; ++i) target.run(what, operands);
  target.sum(0);  // all start together
  const auto start = Clock::now();
  for (int i = 0; i < rounds; ++i) target.run(what, operands);
  target.settle();
  const std::chrono::duration<double> mine = Clock::now() - start;
  const double each = mine.count() / rounds;
  return {target.sum(each) / target.size(), target.largest(each)};
}

}  // namespace dai::hardware
