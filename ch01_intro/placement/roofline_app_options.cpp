// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/roofline_app_options.h"

#include "common/torch/device.h"

namespace dai::intro {

void RooflineAppOptions::declare(OptionSet& set) {
  set.add("--decoder", decoder, "whose layers are placed");
  set.add("--batch", shapes.batch, "sequences");
  set.add("--seq", shapes.sequence, "tokens of each");
  set.add("--rung", rung, {"naive", "fused"},
          "plain operators, or one pass each");
  set.add("--device", device, {"auto", "cpu", "cuda"}, "where they run");
  set.add("--threads", threads,
          "that share a product on the CPU; 0: as many as OMP_NUM_THREADS says",
          0);
  set.add("--peak-seconds", roofs.search.seconds,
          "to search the fastest matrix product, for each dtype");
  set.add("--largest", roofs.search.largest,
          "side of the largest matrix that the search tries", 256);
  set.add("--layer-seconds", times.seconds, "to time each layer");
  set.add("--record", record, "write this machine's measurement there");
  set.add("--recorded", recorded,
          "the measurement that --smoke judges; left out: the committed one");
  roofs.search.seconds = 5;
  set.preset("smoke", [this] {
    decoder = "nano-1m";
    shapes = {.batch = 2, .sequence = 64};
    roofs.search.largest = 512;
    roofs.search.seconds = 0.3;
    roofs.bandwidth_seconds = 0.01;
    roofs.memory_bytes = 64 << 20;
    times.seconds = 0.005;
  });
  const auto gpu = [this] {
    roofs.search.largest = 16384;
    decoder = "smollm2-135m";
    shapes = {.batch = 8, .sequence = 1024};
  };
  set.preset("gpu24", gpu);
  set.preset("gpu80", gpu);
}

void RooflineAppOptions::resolve(const LaunchContext& launch,
                                 std::uint64_t seed) {
  roofs.device = times.device = choose_device(device, launch);
  roofs.seed = times.seed = seed;
  shapes.fused = rung == "fused";
  times.ops = shapes.fused ? &fused_ops() : &naive_ops();
}

}  // namespace dai::intro
