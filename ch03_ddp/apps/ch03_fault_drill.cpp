// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/drill/fault_drill.h"

#include <fmt/format.h>

#include <iostream>

#include "common/app.h"

using namespace dai::ddp;
namespace fs = std::filesystem;

void declare(dai::OptionSet& set, DrillOptions& options, std::string& model,
             std::string& bin) {
  set.add("--bin", bin,
          "folder of dai_launch and ch03_ddp_train; empty: this program's");
  set.add("--ranks", options.ranks, "of each training", 1, 64);
  set.add("--steps", options.steps, "of each training");
  set.add("--save-every", options.save_every, "steps between checkpoints");
  set.add("--kills", options.kills, "ranks that are killed", /*min=*/0);
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  const auto preset = [&](const char* name, const char* of, int ranks,
                          int steps, int every, int kills,
                          std::vector<std::string> training) {
    set.preset(name, [&, name, of, ranks, steps, every, kills, training] {
      model = of;
      options.ranks = ranks;
      options.steps = steps;
      options.save_every = every;
      options.kills = kills;
      options.training = training;
    });
  };
  preset("smoke", "nano-1m", 2, 36, 4, 2,
         {"--smoke", "--window", "16", "--microbatch-size", "1"});
  preset("laptop", "nano-1m", 4, 300, 20, 5, {"--preset", "laptop"});
  preset("gpu24", "small-5m", 1, 300, 20, 5, {"--preset", "gpu24"});
  preset("gpu80", "base-110m", 1, 300, 20, 5, {"--preset", "gpu80"});
  preset("node8x2", "base-110m", 8, 300, 20, 5, {"--preset", "node8x2"});
}

void run(dai::App& app, DrillOptions options, const std::string& model,
         const std::string& bin) {
  options.seed = app.seed();
  options.bin = bin.empty() ? fs::read_symlink("/proc/self/exe").parent_path()
                            : fs::path(bin);
  options.out = fs::path(app.out_dir()) / "drill";
  options.training.insert(options.training.end(), {"--model", model});
  options.check();
  const Drill drill = run_drill(options, [](const std::string& line) {
    std::cerr << "drill: " << line << std::endl;
  });
  app.print(drill.to_string() + "\n");
  app.check("exit code, undisturbed", drill.undisturbed_code, 0);
  app.check("exit code, with kills", drill.disturbed_code, 0);
  if (!drill.trouble.empty()) return;
  app.check("kills that were not made",
            static_cast<double>(options.kills - std::ssize(drill.kills)), 0);
  app.check("tensors and values that differ in the end",
            static_cast<double>(drill.differences.tensors.size() +
                                drill.differences.metadata.size()),
            0);
  app.check("steps missing from the loss curve",
            static_cast<double>(options.steps - std::ssize(drill.losses)), 0);
  for (const auto& [name, value] : drill.metrics()) app.metric(name, value);
  app.attach("curves",
             {{fmt::format("{} kills", drill.kills.size()), drill.losses}});
}

int main(int argc, char** argv) {
  DrillOptions options;
  std::string model, bin;
  const dai::AppSpec spec{
      .name = "ch03_fault_drill",
      .shows = "ranks are killed while they train, and nothing is lost",
      .example = "scripts/book run ch03_fault_drill",
      .declare = [&](dai::OptionSet& set) {
        declare(set, options, model, bin);
      }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options, model, bin); });
}
