// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/row_ranges.h"

#include <ATen/Parallel.h>

#ifndef INTRA_OP_PARALLEL
#error "row_ranges.cpp must be compiled with OpenMP"
#endif

namespace dai::intro {

void for_row_ranges(std::int64_t n, std::int64_t grain, RowRange body) {
  at::parallel_for(0, n, grain, body);
}

void for_tasks(std::int64_t n, RowRange body) {
  if (n <= 0) return;
  at::internal::lazy_init_num_threads();
  if (at::in_parallel_region() || at::get_num_threads() == 1) {
    body(0, n);
    return;
  }
  at::internal::invoke_parallel(0, n, 1,
                                [&](std::int64_t begin, std::int64_t end) {
                                  c10::ParallelGuard guard(true);
                                  body(begin, end);
                                });
}

}  // namespace dai::intro
