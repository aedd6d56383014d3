// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <regex>

#include "ch03_ddp/doctor/watch.h"
#include "ch03_ddp/patient/patient.h"
#include "common/app.h"
#include "common/errors.h"
#include "common/torch/device.h"
#include "common/torch/process_group.h"

using namespace dai::ddp;

struct DoctorOptions {
  std::string fault = "skipped-call";
  std::int64_t rank = -1;
  PatientOptions patient;
  std::string flight_recorder;
  dai::DistributedOptions distributed;

  void declare(dai::OptionSet& set) {
    distributed.timeout_s = 6;  // what a fault costs, after its verdict
    set.add("--fault", fault, fault_names(), "what goes wrong");
    set.add("--rank", rank, "whose fault it is; -1: the last", /*min=*/-1);
    set.add("--at-step", patient.step, "when it begins", /*min=*/1);
    set.add("--steps", patient.steps, "of the training");
    set.add("--hidden", patient.hidden, "width of the model", /*min=*/2);
    set.add("--samples", patient.samples, "of a rank, in a step");
    set.add("--pause-s", patient.pause_s, "how long a rank is away");
    set.add("--flight-recorder", flight_recorder,
            "a folder for each rank's calls, for PyTorch's fr_trace");
    add_distributed_options(set, distributed);
    // One small training is enough to have bugs in.
    for (const char* name : {"smoke", "laptop", "gpu24", "gpu80", "node8x2"}) {
      set.preset(name, [] {});
    }
  }
  std::string to_string() const {
    return fmt::format("fault {} of rank {} at step {}, {} steps", fault, rank,
                       patient.step, patient.steps);
  }
};

// "rank 2", or 2 among "ranks 1, 2".
bool names(const std::string& verdict, std::int64_t rank) {
  const std::string first_line = verdict.substr(0, verdict.find('\n'));
  return std::regex_search(
      first_line,
      std::regex(fmt::format("ranks? ([0-9]+, )*{}($|[^0-9])", rank)));
}

struct Outcome {
  std::string verdict, error;
  PatientRun training;
  double handshake_us = 0;
};

// The group and the watch are gone when it returns: a collective that failed
// leaves threads behind which nobody should wait for.
void visit(dai::App& app, const DoctorOptions& options, Outcome& outcome) {
  dai::ProcessGroup group = dai::ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] { options.patient.check(app.launch().world_size); },
      options.to_string());
  app.print(
      fmt::format("ch03_ddp_doctor: {} on {}\n{}\n\n", group.description(),
                  dai::describe_device(group.device()), options.to_string()));
  Watch watch(group, app.launch(),
              {.flight_recorder = options.flight_recorder});
  const auto leave = [&] {
    outcome.verdict = watch.verdict();
    outcome.handshake_us = watch.handshake_us();
  };
  try {
    outcome.training = train_patient(group, watch, options.patient);
  } catch (const std::exception& error) {
    watch.tell_failure(error.what());
    watch.await_verdict(3);
    outcome.error = error.what();
    leave();
    throw;
  }
  watch.close();
  leave();
}

void run(dai::App& app, DoctorOptions options) {
  options.patient.fault = fault_from(options.fault);
  if (options.rank < 0) options.rank = app.launch().world_size - 1;
  options.patient.rank = static_cast<int>(options.rank);
  options.patient.seed = app.seed();
  Outcome outcome;
  try {
    visit(app, options, outcome);
  } catch (const std::exception&) {
    if (outcome.error.empty()) throw;  // not the patient's
    spdlog::info("the training ended: {}", outcome.error);
  }
  const std::string expected = expected_verdict(options.patient.fault);
  app.print(
      fmt::format("the doctor: {}\n\n",
                  outcome.verdict.empty()
                      ? "no verdict"
                      : outcome.verdict.substr(0, outcome.verdict.find('\n'))));
  const bool named = expected.empty()
                         ? outcome.verdict.empty()
                         : outcome.verdict.starts_with(expected + ":");
  app.check(expected.empty() ? "verdicts on a healthy training"
                             : "verdicts other than " + expected,
            named ? 0 : 1, 0);
  if (!expected.empty()) {
    app.check(fmt::format("verdicts that do not name rank {}", options.rank),
              names(outcome.verdict, options.rank) ? 0 : 1, 0);
  }
  app.metric("handshake_us", outcome.handshake_us);
  app.metric("steps", static_cast<double>(outcome.training.losses.size()));
}

int main(int argc, char** argv) {
  DoctorOptions options;
  const dai::AppSpec spec{
      .name = "ch03_ddp_doctor",
      .shows = "a training with a bug, and who finds it",
      .example = "scripts/book run ch03_ddp_doctor -n 4 -- --fault shape",
      .declare = [&](dai::OptionSet& set) { options.declare(set); }};
  return dai::run_app(argc, argv, spec,
                      [&](dai::App& app) { run(app, options); });
}
