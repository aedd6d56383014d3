// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/drill/fault_drill.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <thread>

#include "ch01_intro/counter_random.h"
#include "ch03_ddp/checkpoint/checkpoint_store.h"
#include "ch03_ddp/drill/child_process.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/manifest.h"
#include "common/report.h"
#include "common/timer.h"

namespace dai::ddp {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

std::vector<std::string> command_of(const DrillOptions& options,
                                    const fs::path& checkpoints) {
  std::vector<std::string> words{(options.bin / "dai_launch").string(),
                                 "--standalone",
                                 "--nproc-per-node",
                                 fmt::format("{}", options.ranks),
                                 "--max-restarts",
                                 fmt::format("{}", options.kills),
                                 (options.bin / "ch03_ddp_train").string(),
                                 "--steps",
                                 fmt::format("{}", options.steps),
                                 "--exchange",
                                 "canonical",
                                 "--checkpoint-dir",
                                 checkpoints.string(),
                                 "--save-every",
                                 fmt::format("{}", options.save_every)};
  words.insert(words.end(), options.training.begin(), options.training.end());
  return words;
}

std::int64_t newest_in(const fs::path& checkpoints) {
  const auto steps = CheckpointStore::steps_in(checkpoints);
  return steps.empty() ? 0 : steps.back();
}

std::string last_lines(const fs::path& log) {
  const std::string text = read_file(log);
  std::size_t at = text.size();
  for (int line = 0; line < 6 && at != std::string::npos && at > 0; ++line) {
    at = text.rfind('\n', at - 1);
  }
  return text.substr(at == std::string::npos ? 0 : at);
}

// Kills ranks of a training until it ends.
class Killer {
 public:
  Killer(const DrillOptions& options, const fs::path& checkpoints,
         const std::function<void(const std::string&)>& news)
      : options_(options), checkpoints_(checkpoints), news_(news) {
    plan();
  }

  void watch(ChildProcess& run) {
    while (!run.poll()) {
      std::this_thread::sleep_for(5ms);
      look(run);
    }
  }
  const std::vector<Kill>& kills() const { return kills_; }

 private:
  double draw() {
    return intro::uniform01(intro::stream_key(options_.seed, "drill"),
                            draws_++);
  }
  // The next one comes up to an interval of checkpoints after the next one.
  void plan() {
    wait_until_ = -1;
    rank_ = static_cast<int>(draw() * static_cast<double>(options_.ranks));
    part_ = draw();
  }

  void look(ChildProcess& run) {
    const std::int64_t newest = newest_in(checkpoints_);
    if (!kills_.empty() && kills_.back().back_s == 0 &&
        newest > kills_.back().newest_step) {
      kills_.back().back_s = timer_.seconds() - kills_.back().at_s;
      news_(fmt::format("step {} is saved, {:.1f} s after the kill", newest,
                        kills_.back().back_s));
    }
    if (std::ssize(kills_) == options_.kills || newest == seen_) {
      if (wait_until_ < 0 || timer_.seconds() < wait_until_) return;
      strike(run, newest);
      return;
    }
    // A new checkpoint: somewhere before the next one.
    const double now = timer_.seconds();
    const double pace = seen_ > 0 && last_news_ > 0 ? now - last_news_ : 0.2;
    seen_ = newest;
    last_news_ = now;
    if (newest < options_.steps && wait_until_ < 0) {
      wait_until_ = now + part_ * std::min(pace, 2.0);
    }
  }

  void strike(ChildProcess& run, std::int64_t newest) {
    const auto ranks = run.rank_pids();
    const auto victim = ranks.find(rank_);
    if (victim == ranks.end() || ::kill(victim->second, SIGKILL) != 0) return;
    kills_.push_back(
        {.at_s = timer_.seconds(), .rank = rank_, .newest_step = newest});
    news_(
        fmt::format("{:.1f} s: rank {} is killed; the newest checkpoint is "
                    "of step {}",
                    kills_.back().at_s, rank_, newest));
    seen_ = newest;
    last_news_ = 0;
    if (std::ssize(kills_) == options_.kills) {
      wait_until_ = -1;
      return;
    }
    plan();
  }

  const DrillOptions& options_;
  const fs::path checkpoints_;
  const std::function<void(const std::string&)>& news_;
  const WallTimer timer_;
  std::vector<Kill> kills_;
  std::uint64_t draws_ = 0;
  int rank_ = 0;
  double part_ = 0;         // of an interval
  double wait_until_ = -1;  // seconds; below 0: no kill is due
  double last_news_ = 0;
  std::int64_t seen_ = 0;
};

std::vector<double> losses_in(const fs::path& checkpoint) {
  Checkpoint file(checkpoint);
  const auto& entry = file.manifest().tensors.at("history.loss");
  std::vector<double> losses(element_count(entry.shape));
  file.read("history.loss", 0, std::as_writable_bytes(std::span(losses)));
  return losses;
}

}  // namespace

void DrillOptions::check() const {
  if (ranks < 1 || kills < 0 || save_every < 1 ||
      (kills + 2) * save_every > steps) {
    throw UsageError(fmt::format(
        "{} kills in {} steps with a checkpoint every {}: at least two more "
        "checkpoints than kills",
        kills, steps, save_every));
  }
}

Drill run_drill(const DrillOptions& options,
                const std::function<void(const std::string&)>& news) {
  options.check();
  fs::remove_all(options.out);
  fs::create_directories(options.out);
  Drill drill;
  const fs::path quiet = options.out / "undisturbed";
  const fs::path noisy = options.out / "killed";
  {
    news("a training that nobody disturbs");
    const WallTimer timer;
    ChildProcess run(command_of(options, quiet),
                     options.out / "undisturbed.log");
    drill.undisturbed_code = run.wait();
    drill.undisturbed_s = timer.seconds();
  }
  if (drill.undisturbed_code != 0) {
    drill.trouble = last_lines(options.out / "undisturbed.log");
    return drill;
  }
  {
    news(fmt::format("the same, and {} ranks are killed", options.kills));
    const WallTimer timer;
    ChildProcess run(command_of(options, noisy), options.out / "killed.log");
    Killer killer(options, noisy, news);
    killer.watch(run);
    drill.disturbed_code = run.wait();
    drill.disturbed_s = timer.seconds();
    drill.kills = killer.kills();
  }
  if (drill.disturbed_code != 0) {
    drill.trouble = last_lines(options.out / "killed.log");
    return drill;
  }
  const fs::path last = CheckpointStore::path_of(noisy, options.steps);
  drill.differences =
      compare_checkpoints(CheckpointStore::path_of(quiet, options.steps), last);
  drill.losses = losses_in(last);
  return drill;
}

std::string Drill::to_string() const {
  if (!trouble.empty()) return "a training failed:" + trouble + "\n";
  Table table({"killed at", "rank", "newest checkpoint", "saved again after"});
  for (const Kill& kill : kills) {
    table.add_row({fmt::format("{:.2f} s", kill.at_s),
                   fmt::format("{}", kill.rank),
                   fmt::format("step {}", kill.newest_step),
                   fmt::format("{:.2f} s", kill.back_s)});
  }
  return table.to_string() +
         fmt::format(
             "{} steps: {:.1f} s undisturbed, {:.1f} s with {} kills\nloss: "
             "{:.4f} at first, {:.4f} in the end\n",
             losses.size(), undisturbed_s, disturbed_s, kills.size(),
             losses.front(), losses.back());
}

std::vector<std::pair<std::string, double>> Drill::metrics() const {
  std::vector<std::pair<std::string, double>> all{
      {"undisturbed_s", undisturbed_s},
      {"killed_s", disturbed_s},
      {"kills", static_cast<double>(kills.size())}};
  for (std::size_t i = 0; i < kills.size(); ++i) {
    all.emplace_back(fmt::format("kill_{}_back_s", i + 1), kills[i].back_s);
  }
  return all;
}

}  // namespace dai::ddp
