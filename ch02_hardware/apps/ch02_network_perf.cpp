// SPDX-License-Identifier: Apache-2.0

// Latency and bandwidth of every link, and the one that is slow.

#include "ch02_hardware/network/network_app.h"
#include "common/app.h"

int main(int argc, char** argv) {
  dai::hardware::NetworkAppOptions options;
  dai::AppSpec spec{
      .name = "ch02_network_perf",
      .shows =
          "latency, bandwidth and message rate between ranks as the OSU "
          "benchmarks measure them, for all pairs, and which link is slow",
      .example = "scripts/book run ch02_network_perf -n 3"};
  spec.declare = [&](dai::OptionSet& set) { declare(set, options); };
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    dai::hardware::run_network_perf(app, options);
  });
}
