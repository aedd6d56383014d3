// SPDX-License-Identifier: Apache-2.0
#pragma once

// Do all ranks hold the same weights? Answers travel through the store: a
// broken collective must not be its own judge. Collective.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

// Of all ranks' values, on all of them.
double largest_of_ranks(ProcessGroup& group, double mine);

// The bits in which a rank's numbers differ from rank 0's, the most of any.
std::int64_t most_bits_off_rank0(ProcessGroup& group, const at::Tensor& flat);

}  // namespace dai::ddp
