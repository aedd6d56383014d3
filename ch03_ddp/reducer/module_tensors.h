// SPDX-License-Identifier: Apache-2.0
#pragma once

// What DistributedDataParallel must know of a model that is written with
// torch::nn, by the names that the module gives:
//
//   torch::nn::Sequential model(torch::nn::Linear(8, 4), ...);
//   DistributedDataParallel ddp(tensors_of(*model), group);
//
// Parameters, frozen ones too, and buffers, in the order of registration; the
// weight of an Embedding with sparse(true) has sparse gradients. A parameter
// that two modules share is listed once, by its first name.

#include "ch03_ddp/reducer/model_check.h"

namespace torch::nn {
class Module;
}

namespace dai::ddp {

ModelTensors tensors_of(const torch::nn::Module& module);

}  // namespace dai::ddp
