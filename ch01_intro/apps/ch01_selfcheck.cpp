// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/selfcheck.h"

#include <fmt/format.h>

#include <cstdio>

#include "common/app.h"

using namespace dai::intro;

void declare(dai::OptionSet& set, SelfcheckOptions& options) {
  SelfcheckLimits& limits = options.limits;
  set.add("--max-clock-skew-ms", limits.max_clock_skew_ms,
          "clocks further than this from the others fail");
  set.add("--min-open-files", limits.min_open_files,
          "smallest open-file limit (ulimit -n)");
  set.add("--min-shm-mib", limits.min_shm_mib,
          "smallest /dev/shm, MiB for each rank of the node", 0);
  set.add("--min-memory-mib", limits.min_memory_mib,
          "least available memory, MiB for each rank of the node", 0);
  set.add_flag("--strict", limits.strict, "warnings fail too");
  set.add("--pings", options.pings, "round trips between each two ranks");
  set.add("--bulk-kib", options.bulk_kib, "KiB sent between each two ranks", 1,
          1 << 20);
  set.add("--elements", options.probe.elements,
          "floats of each checked collective");
  set.add("--bandwidth-kib", options.probe.bandwidth_kib,
          "KiB of the timed all_reduce");
  set.add("--repeats", options.probe.repeats, "of the timed all_reduce");
  dai::add_distributed_options(set, options.distributed);
  const auto preset = [&](const char* name, int kib, int repeats) {
    set.preset(name, [&options, kib, repeats] {
      options.probe.bandwidth_kib = kib;
      options.probe.repeats = repeats;
    });
  };
  preset("smoke", 1024, 10);
  preset("laptop", 16384, 20);
  for (const char* gpu : {"gpu24", "gpu80", "node8x2"}) preset(gpu, 262144, 50);
}

// Rank 0 speaks on stdout. A rank that rank 0 cannot know of, or that has a
// terminal of its own, says on stderr what was found on it.
void tell(dai::App& app, const SelfcheckResult& result) {
  if (!result.alone) return app.print(selfcheck_text(result));
  fmt::print(stderr, "{}", selfcheck_own_text(result));
}

void run(dai::App& app, const SelfcheckOptions& options) {
  app.print(fmt::format(
      "ch01_selfcheck: {} rank{}, time-out {} s\n\n", app.launch().world_size,
      app.launch().world_size == 1 ? "" : "s", options.distributed.timeout_s));
  const SelfcheckResult result = run_selfcheck(
      app.launch(), options, [&](const auto& found) { tell(app, found); });
  // Under a launcher rank 0 has told it, and its exit code is everybody's.
  const bool told = app.launch().supervised && !app.is_rank0() && !result.alone;
  if (!told && !app.is_rank0() && !result.alone) {
    for (const Finding& f : result.findings)
      fmt::print(stderr, "{}\n", f.line());
  }
  for (const std::string& check : kSelfchecks) {
    app.check(fmt::format("ranks that fail {}", check),
              told ? 0 : result.failed(check), 0);
  }
  if (!app.is_rank0()) return;
  app.check("cells of the table not run", result.cells_not_run(), 0);
  for (const auto& [name, value] : selfcheck_metrics(result)) {
    app.metric(name, value);
  }
  app.attach("selfcheck", selfcheck_json(result));
}

int main(int argc, char** argv) {
  SelfcheckOptions options;
  dai::AppSpec spec{
      .name = "ch01_selfcheck",
      .shows =
          "preflight of all ranks before a long run: names, ports, "
          "network, clocks, versions, devices, collectives",
      .example = "scripts/book run ch01_selfcheck -n 4",
      .declare = [&](dai::OptionSet& set) { declare(set, options); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
