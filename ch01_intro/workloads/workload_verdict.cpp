// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/three_workloads.h"

namespace dai::intro {

WorkloadVerdict judge(const ThreeWorkloads& all) {
  WorkloadVerdict verdict;
  const WorkloadRow *training = nullptr, *prefill = nullptr;
  std::vector<const WorkloadRow*> decode;
  for (const WorkloadRow& row : all.rows) {
    if (!(row.place.slowdown >= 1 - kClockTolerance)) {
      ++verdict.faster_than_roof;
    }
    if (row.work.name == "training") training = &row;
    if (row.work.name == "prefill") prefill = &row;
    if (row.work.name == "decode") decode.push_back(&row);
  }
  if (training == nullptr || prefill == nullptr || decode.empty()) {
    // What was not measured is not where it belongs.
    verdict.misplaced = verdict.out_of_order = verdict.batching_lost = 1;
    return verdict;
  }
  if (training->place.bound != Bound::kCompute) ++verdict.misplaced;
  if (decode.front()->place.bound != Bound::kMemory) ++verdict.misplaced;
  if (training->work.intensity() <= prefill->work.intensity()) {
    ++verdict.out_of_order;
  }
  if (prefill->work.intensity() <= decode.back()->work.intensity()) {
    ++verdict.out_of_order;
  }
  for (std::size_t i = 1; i < decode.size(); ++i) {
    if (decode[i]->work.intensity() <= decode[i - 1]->work.intensity()) {
      ++verdict.out_of_order;
    }
  }
  if (decode.back()->tokens_per_s() < 2 * decode.front()->tokens_per_s()) {
    ++verdict.batching_lost;
  }
  return verdict;
}

}  // namespace dai::intro
