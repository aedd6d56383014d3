// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compare/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "ch01_intro/parameter_bits.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

double largest_of_ranks(ProcessGroup& group, double mine) {
  double most = -std::numeric_limits<double>::infinity();
  for (const auto& text : group.gather_strings(fmt::format("{}", mine))) {
    most = std::max(most, std::strtod(text.c_str(), nullptr));
  }
  return most;
}

std::int64_t most_bits_off_rank0(ProcessGroup& group, const at::Tensor& flat) {
  // A broadcast that does nothing must not leave a rank with its own weights.
  at::Tensor rank0 = flat.clone();
  if (group.rank() != 0) rank0.fill_(std::numeric_limits<float>::quiet_NaN());
  group.broadcast(rank0);
  return static_cast<std::int64_t>(largest_of_ranks(
      group, static_cast<double>(intro::differing_bits(flat, rank0))));
}

}  // namespace dai::ddp
