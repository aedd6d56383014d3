// SPDX-License-Identifier: Apache-2.0
#pragma once

// PyTorch's intra-op threads for loops of our own (at::parallel_for is empty
// of threads in files compiled without OpenMP, and OpenMP's option does not go
// with the shared precompiled header: hence one file that has it).
//
//   for_row_ranges(rows, rows_worth_a_thread, [&](auto begin, auto end) {...});

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace dai::intro {

using RowRange = c10::function_ref<void(std::int64_t, std::int64_t)>;

// Cuts [0, n) into one range a thread, none shorter than `grain` but the last,
// and runs `body` on each. The cut depends on the number of threads: what the
// body computes for a row must not depend on its range. Inside another
// parallel region, and where one range is left, in the calling thread.
void for_row_ranges(std::int64_t n, std::int64_t grain, RowRange body);

// The same with grain 1 and always inside a parallel region, also for n = 1:
// matrix products called by `body` then use one thread each and give the same
// bits at any number of threads.
void for_tasks(std::int64_t n, RowRange body);

}  // namespace dai::intro
