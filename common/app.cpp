// SPDX-License-Identifier: Apache-2.0
#include "common/app.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "common/errors.h"
#include "common/file.h"
#include "common/log.h"
#include "common/options.h"

namespace dai {
namespace {

bool fast_exit_requested = false;
bool another_rank_speaks = false;

// bin/APP and out/APP lie side by side in the build folder.
std::string default_out_dir(const std::string& app) {
  std::error_code error;
  const auto exe = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto root =
      error ? std::filesystem::current_path() : exe.parent_path().parent_path();
  return (root / "out" / app).string();
}

// One line on stderr: the last thing that a failing rank says.
void complain(const std::string& app, const LaunchContext& launch,
              const std::string& what) {
  if (another_rank_speaks) return;
  const std::string line = what.substr(0, what.find('\n'));
  if (launch.world_size > 1) {
    fmt::print(stderr, "{}: [rank {}/{}] {}\n", app, launch.rank,
               launch.world_size, line);
  } else {
    fmt::print(stderr, "{}: {}\n", app, line);
  }
}

// With a closed stdout the next file that is opened would be it, and tables
// would end up in there. What is opened for reading only refuses them.
void keep_standard_streams() {
  for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0;
       fd = ::open("/dev/null", O_RDONLY)) {
    if (fd <= STDERR_FILENO) continue;
    ::close(fd);
    return;
  }
}

}  // namespace

std::string App::out_dir() const {
  const std::string dir =
      out_dir_.empty() ? default_out_dir(report_.app) : out_dir_;
  std::filesystem::create_directories(dir);
  return dir;
}

std::string App::cache_dir() const {
  const std::string dir = default_out_dir("cache");
  std::filesystem::create_directories(dir);
  return dir;
}

void App::print(std::string_view text) const {
  if (!is_rank0()) return;
  // Not fmt::print, which throws: run_app looks at the stream in the end.
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void App::check(std::string name, double value, double tolerance) {
  report_.checks.push_back({std::move(name), value, tolerance});
}

void App::metric(const std::string& name, double value) {
  report_.metrics[name] = value;
}

void App::attach(const std::string& key, nlohmann::ordered_json value) {
  report_.extra[key] = std::move(value);
}

// Every rank judges its own checks; rank 0 prints all of its own, the others
// only those that failed, so that N ranks do not print N times "ok".
int App::judge() const {
  int code = kExitOk;
  for (const Check& check : report_.checks) {
    if (!check.ok()) code = kExitFailed;
    if (is_rank0()) {
      print(check.to_string() + "\n");
    } else if (!check.ok()) {
      complain(report_.app, launch(), check.to_string());
    }
  }
  if (report_.checks.empty()) {
    complain(report_.app, launch(), "no check recorded: nothing was proved");
    code = kExitFailed;
  }
  return code;
}

// Half an hour of training must not end in "no such folder".
void App::open_outputs() {
  if (!is_rank0()) return;
  if (!out_dir_.empty()) {
    std::error_code error;
    std::filesystem::create_directories(out_dir_, error);
    if (error) {
      throw UsageError(fmt::format("--out {}: {}", out_dir_, error.message()));
    }
    if (json_path_.empty()) json_path_ = out_dir_ + "/report.json";
  }
  for (const std::string& path : {json_path_, trace_path_}) {
    if (!path.empty()) AtomicFile probe(path);  // never committed
  }
}

void App::write_outputs(int code) const {
  if (!is_rank0()) return;
  if (tracing()) {
    write_file_atomically(
        trace_path_, merged_trace_.empty() ? trace_->to_json() : merged_trace_);
  }
  if (!json_path_.empty()) {
    write_file_atomically(json_path_, report_.to_json(code).dump(2) + "\n");
  }
}

int run_app(int argc, char** argv, const AppSpec& spec,
            const std::function<void(App&)>& body) {
  another_rank_speaks = false;
  keep_standard_streams();
  App app;
  app.report_.app = spec.name;
  int code = kExitFailed;
  try {
    app.report_.launch = launch_context_from_environment();
    init_log(app.launch().rank, app.launch().world_size);
    try {
      if (!parse_options(argc, argv, spec, app)) return kExitOk;  // --help
    } catch (const UsageError&) {
      // All ranks were given the same words: one of them says what is wrong.
      if (!app.is_rank0()) return kExitUsage;
      throw;
    }
    app.open_outputs();
    app.trace_ = std::make_unique<Trace>(app.launch().rank, app.launch().host);
    body(app);
    code = app.judge();
  } catch (const UsageError& error) {
    complain(spec.name, app.launch(), error.what());
    code = kExitUsage;
  } catch (const Unavailable& error) {
    complain(spec.name, app.launch(),
             fmt::format("cannot run here: {}", error.what()));
    code = kExitUnavailable;
  } catch (const std::exception& error) {
    complain(spec.name, app.launch(), error.what());
  } catch (...) {
    complain(spec.name, app.launch(), "unknown exception");
  }
  try {
    // After a usage error nothing ran, and an old result must survive it.
    if (code != kExitUsage) app.write_outputs(code);
  } catch (const std::exception& error) {
    complain(spec.name, app.launch(), error.what());
    code = kExitFailed;
  }
  // A line that was lost earlier left its mark on the stream.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    complain(spec.name, app.launch(), "cannot write to standard output");
    code = kExitFailed;
  }
  if (fast_exit_requested) std::_Exit(code);
  return code;
}

void let_another_rank_speak() {
  another_rank_speaks = true;
}

void request_fast_exit() {
  fast_exit_requested = true;
}

}  // namespace dai
