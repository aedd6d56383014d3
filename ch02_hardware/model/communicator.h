// SPDX-License-Identifier: Apache-2.0
#pragma once

// A transport with a choice of algorithms: what a program uses that does not
// care which one it is.
//
//   Communicator group(std::move(transport), CollectiveModel::built_in());
//   group.run(Collective::kAllReduce, {.input = x, .output = x, .count = n});
//
// A single algorithm can be insisted on, by name, for one collective.

#include <array>
#include <memory>
#include <string>

#include "ch02_hardware/collectives/pairwise.h"
#include "ch02_hardware/model/selector.h"

namespace dai::hardware {

class Communicator {
 public:
  Communicator(std::unique_ptr<Transport> transport,
               const CollectiveModel& model);

  Transport& transport() { return *transport_; }
  const Selector& selector() const { return selector_; }

  void run(Collective what, const Operands& operands);
  void run(const UnevenOperands& all_to_all);

  // "all_reduce=ring,broadcast=pipelined"; empty: nothing changes. Throws
  // UsageError for a name that does not exist.
  void insist(const std::string& algorithms);
  // Throws as insist() would.
  static void check_names(const std::string& algorithms);

 private:
  const std::unique_ptr<Transport> transport_;
  const Selector selector_;
  std::array<const Algorithm*, 10> insisted_{};
};

}  // namespace dai::hardware
