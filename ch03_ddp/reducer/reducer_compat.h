// SPDX-License-Identifier: Apache-2.0
#pragma once

// c10d's Reducer and Logger: what torch.nn.parallel.DistributedDataParallel is
// a wrapper of. Beside common/torch/c10d_compat.h, for chapter 3's .cpp files
// only; checked with LibTorch 2.11.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "common/torch/c10d_compat.h"
