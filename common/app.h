// SPDX-License-Identifier: Apache-2.0
#pragma once

// The contract that every example of the book keeps (see README.md, "Every app
// keeps one contract"). A main() declares its options, then hands its body to
// run_app(), which parses the command line, runs the body, prints the checks,
// writes --json and turns every ending into an exit code (common/errors.h).
//
//   int main(int argc, char** argv) {
//     Options options;
//     dai::AppSpec spec{.name = "ch01_hello", .shows = "who runs where",
//                       .example = "scripts/book run ch01_hello -n 2"};
//     spec.declare = [&](dai::OptionSet& set) {
//       set.add("--steps", options.steps, "training steps");
//       set.preset("smoke", [&] { options.steps = 10; });
//     };
//     return dai::run_app(argc, argv, spec, [&](dai::App& app) {
//       app.check("max|sum - expected|", error, /*tolerance=*/0);
//     });
//   }
//
// Options every app has: --help --smoke --preset NAME --config FILE.yaml
// --seed N --json FILE --trace FILE --out DIR.
// A flag on the command line beats the YAML file, which beats the preset.
// --out also takes report.json, unless --json names another place.
// --smoke is --preset smoke. An unknown flag or YAML key exits 2 and names the
// nearest one that exists.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/launch_context.h"
#include "common/report.h"
#include "common/trace.h"

namespace CLI {
class App;
}

namespace dai {

class App;
struct AppSpec;

// Collects an app's options; a thin layer over CLI11 that keeps its (slow to
// compile) headers out of every main().
class OptionSet {
 public:
  explicit OptionSet(CLI::App& cli) : cli_(cli) {}

  // Numbers outside [min, max], and double ones that are not finite, exit 2.
  void add(const std::string& flag, std::int64_t& value,
           const std::string& help, std::int64_t min = 1,
           std::int64_t max = 1'000'000'000);
  void add(const std::string& flag, double& value, const std::string& help,
           double min = 0);
  void add(const std::string& flag, std::string& value,
           const std::string& help);
  // Only one of `choices` is accepted.
  void add(const std::string& flag, std::string& value,
           const std::vector<std::string>& choices, const std::string& help);
  void add_flag(const std::string& flag, bool& value, const std::string& help);

  // Declares what --preset NAME sets: smoke, laptop (the default), gpu24,
  // gpu80 or node8x2. Presets that an app does not declare are refused.
  void preset(const std::string& name, std::function<void()> apply);

 private:
  friend bool parse_options(int, char**, const AppSpec&, App&);
  void apply(const std::string& preset) const;
  // All that are declared, and the one that holds without any.
  std::vector<std::string> preset_names(const std::string& standard) const;
  CLI::App& cli_;
  std::vector<std::pair<std::string, std::function<void()>>> presets_;
};

struct AppSpec {
  std::string name;     // the file's stem: ch01_first_distributed
  std::string shows;    // one line for --help
  std::string example;  // one real command line
  std::function<void(OptionSet&)> declare = nullptr;
};

// What the body of an app sees while it runs. One owner thread.
class App {
 public:
  const LaunchContext& launch() const { return report_.launch; }
  bool is_rank0() const { return launch().rank == 0; }
  std::uint64_t seed() const { return report_.seed; }
  const std::string& preset() const { return preset_; }
  bool smoke() const { return preset_ == "smoke"; }
  // build/<preset>/out/<app> or --out; created on first use.
  std::string out_dir() const;
  // build/<preset>/out/cache: what apps share and can make anew (a corpus's
  // tokens). --out does not move it.
  std::string cache_dir() const;

  // Prints to stdout on rank 0 only; the other ranks stay silent.
  void print(std::string_view text) const;

  // Records a proof; printed at the end, in the order of the calls. An app
  // that ends without having recorded any has failed.
  void check(std::string name, double value, double tolerance);
  // Records a number for --json; `name` ends in its unit ("step_ms").
  void metric(const std::string& name, double value);
  // Anything else for --json (curves, tables), under a key of its own.
  void attach(const std::string& key, nlohmann::ordered_json value);

  // Time spans of this rank; written to --trace (merged over the ranks when
  // the app gives the ranks' traces to set_merged_trace, else rank 0's own).
  Trace& trace() { return *trace_; }
  bool tracing() const { return !trace_path_.empty(); }
  void set_merged_trace(std::string json) { merged_trace_ = std::move(json); }

 private:
  friend int run_app(int, char**, const AppSpec&,
                     const std::function<void(App&)>&);
  friend bool parse_options(int, char**, const AppSpec&, App&);
  int judge() const;  // prints the checks, returns an exit code
  void open_outputs();
  void write_outputs(int code) const;

  Report report_;
  std::string preset_ = "laptop";
  std::string out_dir_;
  std::string json_path_;
  std::string trace_path_;
  std::string merged_trace_;
  std::unique_ptr<Trace> trace_;
};

// Runs the app and returns its exit code. Never throws.
int run_app(int argc, char** argv, const AppSpec& spec,
            const std::function<void(App&)>& body);

// All ranks end for a reason that one of them prints: asks run_app to keep the
// exit code of this rank and leave the line to that one.
void let_another_rank_speak();

// After a dead peer, a library's threads may never end: asks run_app to leave
// by _Exit once the outputs are written, instead of through static teardown.
void request_fast_exit();

}  // namespace dai
