// SPDX-License-Identifier: Apache-2.0
#pragma once

// Data parallelism adds up gradients by their place in a list, so all ranks
// must have the same list. A rank that built another model (an option, a
// version, an uneven checkpoint) would otherwise crash inside a collective, or
// train nonsense.
//
//   require_same_model(module, group);   // before anything else
//
// Compares name, dtype, shape, strides and whether it learns, of parameters and
// buffers, through the store: nothing is sent that could mismatch. Values may
// differ; rank 0's are broadcast next.

#include <set>
#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

// What DistributedDataParallel must know of a model.
struct ModelTensors {
  std::string name = "model";                       // for tables
  std::vector<intro::NamedParameter> parameters;    // frozen ones too
  std::vector<intro::NamedParameter> buffers = {};  // running means, say
  std::set<std::string> sparse = {};  // parameters with sparse gradients
};

// Collective. Throws UsageError on every rank when one rank's model differs
// from rank 0's: "rank 2 has another model than rank 0: parameter #3 is
// head.weight float32[10, 64], and float32[12, 64] on rank 0".
void require_same_model(const ModelTensors& model, ProcessGroup& group);

}  // namespace dai::ddp
