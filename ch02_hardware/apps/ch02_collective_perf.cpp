// SPDX-License-Identifier: Apache-2.0

// nccl-tests' table for every backend and every algorithm of this chapter.

#include "ch02_hardware/perf/perf_app.h"
#include "common/app.h"

int main(int argc, char** argv) {
  dai::hardware::PerfAppOptions options;
  dai::AppSpec spec{
      .name = "ch02_collective_perf",
      .shows =
          "how fast a collective is, and whether it is right: size, time, "
          "algbw, busbw, #wrong, over gloo, mpi, nccl or this chapter's "
          "own algorithms",
      .example =
          "scripts/book run ch02_collective_perf -n 2 -- --algorithm "
          "ring -b 1K -e 64M"};
  spec.declare = [&](dai::OptionSet& set) { declare(set, options); };
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    dai::hardware::run_collective_perf(app, options);
  });
}
