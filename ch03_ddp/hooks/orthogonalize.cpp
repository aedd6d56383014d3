// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/orthogonalize.h"

#include <cmath>

namespace dai::ddp {

std::int64_t orthogonalize(const at::Tensor& matrix) {
  std::int64_t kept = 0;
  for (std::int64_t c = 0; c < matrix.size(1); ++c) {
    const at::Tensor column = matrix.select(1, c);
    const double before = column.norm().item<double>();
    for (int twice = 0; twice < 2 && c > 0; ++twice) {
      const at::Tensor done = matrix.narrow(1, 0, c);
      column.sub_(done.mv(done.t().mv(column)));
    }
    const double left = column.norm().item<double>();
    // What remains of a column that was a combination of the others is noise.
    if (left > 1e-6 * before) {
      column.div_(left);
      ++kept;
    } else if (std::isfinite(left)) {
      column.zero_();
    }
  }
  return kept;
}

}  // namespace dai::ddp
