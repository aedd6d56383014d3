// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/model/communicator.h"

#include <fmt/format.h>

#include <sstream>
#include <utility>

#include "common/errors.h"

namespace dai::hardware {

Communicator::Communicator(std::unique_ptr<Transport> transport,
                           const CollectiveModel& model)
    : transport_(std::move(transport)), selector_(model, *transport_) {}

void Communicator::run(Collective what, const Operands& operands) {
  const auto bytes = static_cast<std::size_t>(size_bytes(
      what, operands.count, size_of(operands.dtype), transport_->size()));
  const Algorithm* algorithm = insisted_[static_cast<int>(what)];
  if (!algorithm || !algorithm->runs_on(operands.bytes(), *transport_)) {
    algorithm = &selector_.choose(what, bytes);
  }
  algorithm->run(operands, *transport_);
}

void Communicator::run(const UnevenOperands& all_to_all) {
  pairwise_all_to_all_uneven(all_to_all, *transport_);
}

namespace {

// Calls found(algorithm) for each of "all_reduce=ring,broadcast=pipelined".
template <class Found>
void for_each_name(const std::string& algorithms, Found&& found) {
  std::istringstream all(algorithms);
  for (std::string one; std::getline(all, one, ',');) {
    const auto equals = one.find('=');
    const std::string collective = one.substr(0, equals);
    const Algorithm* named = nullptr;
    for (const Algorithm& algorithm : hardware::algorithms()) {
      if (collective != to_string(algorithm.collective)) continue;
      named = &algorithm_by_name(
          algorithm.collective,
          equals == std::string::npos ? "" : one.substr(equals + 1));
      break;
    }
    if (!named) {
      throw UsageError(
          fmt::format("algorithms {}: expected COLLECTIVE=ALGORITHM, such as "
                      "all_reduce=ring",
                      one));
    }
    found(*named);
  }
}

}  // namespace

void Communicator::insist(const std::string& algorithms) {
  for_each_name(algorithms, [&](const Algorithm& algorithm) {
    insisted_[static_cast<int>(algorithm.collective)] = &algorithm;
  });
}

void Communicator::check_names(const std::string& algorithms) {
  for_each_name(algorithms, [](const Algorithm&) {});
}

}  // namespace dai::hardware
