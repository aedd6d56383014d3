// SPDX-License-Identifier: Apache-2.0

// The ordinary distributed program of connect_test and fault_test: it joins
// its group, does a few checked all_reduces and ends; flags make this one rank
// misbehave without telling anybody. It is not a shipped example.

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>

#include "common/app.h"
#include "common/errors.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace {

struct Options {
  dai::DistributedOptions distributed;
  std::int64_t steps = 3;
  std::string preflight = "ok";
  std::string fault = "none";
  std::string fingerprint = "probe";
};

void preflight(const std::string& kind) {
  if (kind == "usage") throw dai::UsageError("data.gz is truncated");
  if (kind == "unavailable") throw dai::Unavailable("needs 2 GPUs, found 0");
  if (kind == "failed") throw std::runtime_error("disk on fire");
}

void run(dai::App& app, const Options& options) {
  auto group = dai::ProcessGroup::connect(
      app.launch(), options.distributed, [&] { preflight(options.preflight); },
      options.fingerprint);
  double error = 0;
  for (int step = 0; step < options.steps; ++step) {
    at::Tensor sum = at::full({1 << 20}, group.rank() + 1.0);
    if (step == 1 && options.fault == "kill_in_collective") {
      std::vector<at::Tensor> tensors{sum};
      auto work = group.c10d()->allreduce(tensors);
      raise(SIGKILL);
    }
    if (step == 1 && options.fault == "kill") raise(SIGKILL);
    if (step == 1 && options.fault == "stop") raise(SIGSTOP);
    if (step == 1 && options.fault == "throw") {
      throw std::runtime_error("this rank gives up");
    }
    group.all_reduce(sum);
    const double expected = group.size() * (group.size() + 1) / 2.0;
    error = std::max(error, (sum - expected).abs().max().item<double>());
  }
  app.check("max|sum - expected|", error, 0);
  app.print(fmt::format("{}\n", group.description()));
  if (options.fault == "kill_at_exit") raise(SIGKILL);
  group.shutdown();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  dai::AppSpec spec;
  spec.name = "connect_probe";
  spec.shows = "a rank that can be told to misbehave";
  spec.example = "connect_probe --fault kill";
  spec.declare = [&](dai::OptionSet& set) {
    dai::add_distributed_options(set, options.distributed);
    set.add("--steps", options.steps, "number of all_reduces");
    set.add("--preflight", options.preflight,
            {"ok", "usage", "unavailable", "failed"}, "how loading data ends");
    set.add(
        "--fault", options.fault,
        {"none", "kill", "kill_in_collective", "stop", "throw", "kill_at_exit"},
        "what befalls this rank");
    set.add("--fingerprint", options.fingerprint, "what this rank runs");
    set.preset("laptop", [] {});
    set.preset("smoke", [] {});
  };
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
