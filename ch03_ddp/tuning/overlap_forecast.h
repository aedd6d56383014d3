// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a bucket size will cost, before a step is run with it: backward's
// timetable, a wire with a price a message, and the order in which buckets may
// leave.
//
//   a bucket is ready    when its last gradient is
//   it may leave         when it is ready and the one before it has left
//   the wire takes it    when it is done with the one before
//   contention c         a millisecond of wire costs backward c milliseconds: 0
//                        where a network card or a copy engine does the work,
//                        about 1 where ranks share their cores with the wire
//   exposed              from the last gradient to the wire's end
//
//   const OverlapForecast f = forecast_overlap(plan, timetable, all_reduce_ms,
//                                              contention);
//   f.end_ms        // from backward's start to the means: what counts
//
// One measured step gives the contention (fit_contention()). With 0, many small
// buckets look best; with 1, a single large one.

#include <cstdint>
#include <functional>
#include <vector>

#include "ch03_ddp/buckets/gradient_buckets.h"

namespace dai::ddp {

// Of one backward.
struct BackwardTimetable {
  std::vector<double> ready_ms;     // [parameter], from backward's start
  std::vector<std::int64_t> bytes;  // [parameter]

  std::vector<std::size_t> ready_order() const;  // ties: by index
  double compute_end_ms() const;
};

struct OverlapForecast {
  double end_ms = 0;      // backward and what is left of the wire after it
  double wire_ms = 0;     // in which something is on the wire
  double exposed_ms = 0;  // what the optimizer waits for
  double hidden = 0;      // of wire_ms, behind backward
};

using AllReduceMs = std::function<double(double bytes)>;

OverlapForecast forecast_overlap(const BucketPlan& plan,
                                 const BackwardTimetable& timetable,
                                 const AllReduceMs& milliseconds,
                                 double contention);

// The contention, 0 to kMostContention, at which the forecast's end is the one
// that was measured.
inline constexpr double kMostContention = 2;
double fit_contention(const BucketPlan& plan,
                      const BackwardTimetable& timetable,
                      const AllReduceMs& milliseconds, double measured_end_ms);

}  // namespace dai::ddp
