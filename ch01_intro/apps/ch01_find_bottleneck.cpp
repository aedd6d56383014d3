// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/verdict.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "ch01_intro/bottleneck/bottleneck_app_options.h"
#include "ch01_intro/bottleneck/recorded_jobs.h"
#include "ch01_intro/recorded/recorded.h"
#include "common/app.h"
#include "common/torch/device.h"

using namespace dai::intro;

// Of this run or of an earlier one.
JobEvidence take_reference(const BottleneckAppOptions& options,
                           WatchedTraining& job) {
  job.observe(options.warm_up);
  if (options.reference.empty()) return job.observe(options.reference_steps);
  return read_evidence(
             read_recorded(options.reference, kBottleneckApp).data.dump(),
             options.reference)
      .reference;
}

Verdict watch(dai::App& app, const BottleneckAppOptions& options,
              WatchedTraining& job) {
  Evidence evidence{.reference = take_reference(options, job)};
  app.print(fmt::format(
      "reference: {} steps {}; watching the next {}\n",
      evidence.reference.size(),
      options.reference.empty() ? "of this run" : "of " + options.reference,
      options.windows * options.window));
  Verdict verdict;
  for (std::int64_t window = 0; window < options.windows; ++window) {
    evidence.watched = job.observe(options.window);
    verdict = judge(evidence, {}, verdict.resource);
    app.print(fmt::format("steps {} to {}: {}\n", window * options.window + 1,
                          (window + 1) * options.window, verdict.sentence()));
  }
  if (!options.record.empty() && app.is_rank0()) {
    write_recorded(options.record, kBottleneckApp, to_json(evidence));
  }
  return verdict;
}

// A verdict about this machine now is no proof. These are: jobs whose trouble
// is known, judged by the same rules.
void examine_the_judge(dai::App& app) {
  for (const char* kind :
       {"none", "input", "compute", "memory", "communication"}) {
    const Examined result = examine(read_recorded_jobs(
        recorded_path(fmt::format("bottleneck_{}.json", kind))));
    app.check(
        fmt::format("misjudged of {} recorded: {}{}", result.jobs, kind,
                    result.wrong.empty() ? "" : " (" + result.wrong + ")"),
        static_cast<double>(result.misjudged),
        std::floor(static_cast<double>(result.jobs) / 10));
  }
}

void run(dai::App& app, BottleneckAppOptions& options) {
  options.job.seed = app.seed();
  options.job.cache_folder = app.cache_dir();
  options.job.input_timeout_s = options.distributed.timeout_s;
  dai::ProcessGroup group = dai::ProcessGroup::connect(
      app.launch(), options.distributed, [&] { options.check(); },
      options.job.to_string());
  dai::set_deterministic_threads();
  app.print(fmt::format("ch01_find_bottleneck: {} on {}\n", group.description(),
                        dai::describe_device(group.device())));

  WatchedTraining job(options.job, group);
  const Verdict verdict = watch(app, options, job);
  app.print(fmt::format("\n{}\n{}\n{}\n\n", verdict.table(), verdict.sentence(),
                        verdict.advice()));
  examine_the_judge(app);
  app.check("bits of the parameters off rank 0's",
            static_cast<double>(job.bits_off_rank0()), 0);
  app.check("updates skipped", static_cast<double>(job.skipped_updates()), 0);
  app.check("last loss / first loss", job.last_loss() / job.first_loss(), 0.95);

  app.metric("step_ms", verdict.step_ms);
  app.metric("reference_step_ms", verdict.reference_step_ms);
  app.metric("cost_ms", verdict.cost_ms);
  app.attach("verdict", {{"resource", to_string(verdict.resource)},
                         {"rank", verdict.rank},
                         {"from_the_start", verdict.from_the_start},
                         {"because", verdict.reason}});
}

int main(int argc, char** argv) {
  BottleneckAppOptions options;
  const dai::AppSpec spec{
      .name = kBottleneckApp,
      .shows = "what limits a job: input, compute, memory, communication, none",
      .example = "scripts/book run ch01_find_bottleneck -n 2",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
