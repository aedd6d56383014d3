// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/checkpoint_report.h"

#include <fmt/format.h>

#include "ch03_ddp/checkpoint/checkpoint_store.h"
#include "ch03_ddp/checkpoint/example_checkpoint.h"
#include "common/app.h"
#include "common/errors.h"

using namespace dai::ddp;
namespace fs = std::filesystem;

struct InspectOptions {
  std::string checkpoint, diff;
  bool tensors = false;

  void declare(dai::OptionSet& set) {
    set.add("--checkpoint", checkpoint,
            "a checkpoint, or a run's folder of them; without it an example "
            "is made");
    set.add("--diff", diff,
            "another one, or the newest of a run: in what do they differ?");
    set.add_flag("--tensors", tensors, "a line for each tensor");
    set.preset("smoke", [] {});
    set.preset("laptop", [] {});
  }
};

// A run's folder has several; the newest is shown in full.
void inspect(dai::App& app, const InspectOptions& given) {
  std::vector<fs::path> paths;
  const std::vector<std::int64_t> steps =
      CheckpointStore::steps_in(given.checkpoint);
  for (const std::int64_t step : steps) {
    paths.push_back(CheckpointStore::path_of(given.checkpoint, step));
  }
  if (paths.empty()) paths.emplace_back(given.checkpoint);
  std::int64_t damaged = 0;
  for (const fs::path& path : paths) {
    const CheckpointContents contents = look_at(path);
    damaged += !contents.damage.empty();
    if (&path == &paths.back()) {
      app.print(contents.to_string(given.tensors));
    } else {
      app.print(
          fmt::format("{}: {}\n", path.string(),
                      contents.damage.empty() ? "whole" : contents.damage));
    }
  }
  app.check("damaged checkpoints", static_cast<double>(damaged), 0);
  app.metric("checkpoints", static_cast<double>(paths.size()));
}

// The checkpoint itself, or the newest of a run's folder.
fs::path newest_of(const std::string& path) {
  const std::vector<std::int64_t> steps = CheckpointStore::steps_in(path);
  return steps.empty() ? fs::path(path)
                       : CheckpointStore::path_of(path, steps.back());
}

void compare(dai::App& app, const InspectOptions& given) {
  const CheckpointDifferences found =
      compare_checkpoints(newest_of(given.checkpoint), newest_of(given.diff));
  app.print(found.to_string());
  app.check("values and tensors that differ",
            static_cast<double>(found.metadata.size() + found.tensors.size()),
            0);
}

// Looks at a checkpoint, and at a copy of it with another bit.
void demonstrate(dai::App& app, InspectOptions given) {
  const fs::path whole = fs::path(app.out_dir()) / "example" / "step-000003";
  const fs::path damaged = fs::path(app.out_dir()) / "example-damaged";
  fs::remove_all(whole);
  fs::remove_all(damaged);
  write_example_checkpoint(whole);
  fs::copy(whole, damaged);
  flip_a_bit(damaged);
  given.checkpoint = whole.string();
  inspect(app, given);
  const CheckpointContents contents = look_at(damaged);
  app.print(fmt::format("\n{}: {}\n", damaged.string(), contents.damage));
  app.check("damage that was overlooked", contents.damage.empty() ? 1 : 0, 0);
}

int main(int argc, char** argv) {
  InspectOptions options;
  const dai::AppSpec spec{
      .name = "ch03_checkpoint_inspect",
      .shows = "what is in a checkpoint, whether it is whole, diff of two",
      .example = "scripts/book run ch03_checkpoint_inspect -- --checkpoint run",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    if (options.checkpoint.empty()) {
      if (!options.diff.empty()) {
        throw dai::UsageError("--diff is from what --checkpoint names");
      }
      demonstrate(app, options);
    } else if (options.diff.empty()) {
      inspect(app, options);
    } else {
      compare(app, options);
    }
  });
}
