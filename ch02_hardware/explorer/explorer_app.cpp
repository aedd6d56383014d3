// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/explorer_app.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "ch02_hardware/explorer/curves.h"
#include "ch02_hardware/explorer/schedule.h"
#include "ch02_hardware/perf/direct_group.h"
#include "ch02_hardware/perf/perf_table.h"
#include "common/app.h"
#include "common/errors.h"
#include "common/file.h"

namespace dai::hardware {
namespace {

constexpr Collective kExplored[] = {
    Collective::kAllReduce, Collective::kReduce,        Collective::kBroadcast,
    Collective::kAllGather, Collective::kReduceScatter, Collective::kGather,
    Collective::kScatter,   Collective::kAllToAll};

// The model's error on sizes that it has not seen, beyond which it is wrong.
constexpr double kMostError = 1.0 / 3;

constexpr int kFirstSize = 64;

// More would travel in several pieces, of which the paper does not speak.
constexpr std::int64_t kMostExplained = 1024;

Collective collective_named(const std::string& name) {
  for (const Collective what : kExplored) {
    if (name == to_string(what)) return what;
  }
  throw UsageError("no collective is called " + name);
}

void explain(App& app, const ExplorerOptions& options) {
  // Its ranks are threads; of several processes each does the same.
  const Collective what = collective_named(options.collective);
  const Algorithm& algorithm = algorithm_by_name(what, options.explain);
  const int ranks = static_cast<int>(options.ranks);
  const bool parts = size_bytes(what, 1, 1, 2) > 1;
  const std::int64_t count = options.count > 0 ? options.count
                             : parts           ? 1
                                               : ranks;
  if (!options.svg.empty() && app.is_rank0()) {
    write_file_atomically(options.svg, "");  // refused before, not after
  }
  const Schedule schedule = record_schedule(algorithm, ranks, count);
  app.print(schedule_text(schedule));
  if (!options.svg.empty() && app.is_rank0()) {
    write_file_atomically(options.svg, schedule_svg(schedule));
    app.print(fmt::format("picture: {}\n", options.svg));
  }
  auto messages = nlohmann::ordered_json::array();
  for (const Message& m : schedule.messages) {
    messages.push_back({{"step", m.step},
                        {"from", m.from},
                        {"to", m.to},
                        {"first_element", m.first},
                        {"elements", m.count},
                        {"added", m.combined}});
  }
  app.attach("messages", messages);
  app.metric("steps", schedule.steps);
  app.check("wrong elements", static_cast<double>(schedule.wrong_elements), 0);
  if (std::string(algorithm.name) == "hierarchical") return;
  const AlgorithmCost cost = cost_of(what, algorithm.name, ranks);
  // Parts without an element are not sent.
  if (count >= 2 * ranks || options.count == 0) {
    app.check("|steps - the paper's|", std::abs(schedule.steps - cost.steps),
              0);
  } else {
    app.check("steps beyond the paper's",
              std::max(0.0, schedule.steps - cost.steps), 0);
  }
  // Parts that do not divide evenly differ by an element.
  const double most = static_cast<double>(*std::max_element(
      schedule.sent_elements.begin(), schedule.sent_elements.end()));
  const double paper = cost.volume * size_bytes(what, count, 1, ranks);
  app.check("elements that a rank sent beyond the paper's",
            std::max(0.0, most - paper), cost.steps);
}

std::string crossover_text(const std::vector<Crossover>& all) {
  std::string text;
  for (const Crossover& one : all) {
    text += fmt::format("{}{} from {:.0f} B", text.empty() ? "" : ", ",
                        one.algorithm, one.from_bytes);
  }
  return text;
}

void print_curves(App& app, const Curves& curves) {
  app.print(fmt::format(
      "\n{} over {}, {} ranks: measured us (predicted from "
      "the other sizes)\n{:>10}",
      to_string(curves.what), curves.medium, curves.ranks, "size (B)"));
  std::vector<double> sizes;
  for (const Curve& curve : curves.curves) {
    app.print(fmt::format(" {:>21}", curve.algorithm));
    for (const CurvePoint& point : curve.points) sizes.push_back(point.bytes);
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (const double size : sizes) {
    app.print(fmt::format("\n{:>10.0f}", size));
    for (const Curve& curve : curves.curves) {
      std::string cell = "-";
      for (const CurvePoint& point : curve.points) {
        if (point.bytes != size) continue;
        cell = fmt::format("{:.1f}", point.measured_s * 1e6);
        if (point.held_out) {
          cell += fmt::format(" ({:.1f})", point.predicted_s * 1e6);
        }
      }
      app.print(fmt::format(" {:>21}", cell));
    }
  }
  app.print(fmt::format("\n{:>10}", "error"));
  for (const Curve& curve : curves.curves) {
    app.print(fmt::format(" {:>20.0f}%", 100 * curve.held_out_error));
  }
  app.print(fmt::format("\nfastest, measured:  {}\nfastest, predicted: {}\n",
                        crossover_text(measured_crossovers(curves)),
                        crossover_text(predicted_crossovers(curves))));
}

nlohmann::ordered_json json_of(const Curves& curves) {
  nlohmann::ordered_json all;
  for (const Curve& curve : curves.curves) {
    nlohmann::ordered_json one;
    for (const CurvePoint& point : curve.points) {
      one["bytes"].push_back(point.bytes);
      one["measured_us"].push_back(point.measured_s * 1e6);
      one["predicted_us"].push_back(point.predicted_s * 1e6);
    }
    one["held_out_error"] = curve.held_out_error;
    all[curve.algorithm] = one;
  }
  return all;
}

// A machine whose cores are moved about is at times three times slower between
// them than at others; a model of its bad hours chooses what is never bad.
CollectiveModel merged(CollectiveModel now, const CollectiveModel& before,
                       bool keep_slower) {
  for (const AlgorithmModel& old : before.algorithms) {
    const auto same = std::find_if(now.algorithms.begin(), now.algorithms.end(),
                                   [&](const AlgorithmModel& one) {
                                     return one.what == old.what &&
                                            one.algorithm == old.algorithm &&
                                            one.medium == old.medium;
                                   });
    if (same == now.algorithms.end()) {
      now.algorithms.push_back(old);
      continue;
    }
    for (int at = 0; keep_slower && at < kSizeClasses; ++at) {
      AlphaBeta& line = same->lines[at];
      line.alpha_s = std::max(line.alpha_s, old.lines[at].alpha_s);
      line.beta_s_per_byte =
          std::max(line.beta_s_per_byte, old.lines[at].beta_s_per_byte);
    }
  }
  return now;
}

// Reads it, or makes sure that it can be written: not after minutes of
// measuring. Empty for a new one.
CollectiveModel model_before(const std::string& file) {
  if (file.empty()) return {};
  if (std::filesystem::exists(file)) return CollectiveModel::from_file(file);
  write_file_atomically(file, CollectiveModel().to_json());
  std::filesystem::remove(file);
  return {};
}

void explore(App& app, const ExplorerOptions& options) {
  const std::size_t most = parse_bytes(options.max_bytes);
  std::vector<Collective> chosen;
  for (const Collective what : kExplored) {
    if (options.collective == "all" || options.collective == to_string(what)) {
      chosen.push_back(what);
    }
  }
  CollectiveModel before;  // what --fit's file knows already
  auto group = ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] {
        check_medium(app.launch(), options.medium);
        if (app.launch().world_size < 2) {
          throw UsageError(
              "curves need 2 or more ranks (-n 2); --explain needs none");
        }
        if (most < 16 * kFirstSize) {
          throw UsageError(fmt::format(
              "--max-bytes {}: at least {}, or no size is left to try the "
              "model on",
              options.max_bytes, 16 * kFirstSize));
        }
        if (!options.svg.empty()) {
          throw UsageError(
              "--svg is the picture of --explain; curves are drawn from --json "
              "by scripts/book plot");
        }
        if (app.is_rank0()) before = model_before(options.fit);
      },
      "ch02_collective_explorer");
  auto direct = connect_direct(app.launch(), group,
                               {.medium = options.medium,
                                .interface = options.distributed.interface,
                                .model = nullptr,
                                .timeout_s = options.distributed.timeout_s});
  app.print(fmt::format("# {}\n", direct.description));
  CurveOptions sweep;
  sweep.rounds = static_cast<int>(options.rounds);
  sweep.repeats = static_cast<int>(options.repeats);
  sweep.naive = options.naive;
  for (double size = kFirstSize; size <= static_cast<double>(most); size *= 4) {
    sweep.sizes.push_back(size);
  }
  CollectiveModel model;
  nlohmann::ordered_json tables;
  std::vector<double> errors;
  int without_curve = 0;
  for (const Collective what : chosen) {
    const Curves curves = measure_curves(*direct.communicator, what, sweep);
    without_curve += curves.curves.empty();
    print_curves(app, curves);
    tables[to_string(what)] = json_of(curves);
    for (const Curve& curve : curves.curves) {
      model.algorithms.push_back(curve.model);
      errors.push_back(curve.held_out_error);
    }
  }
  std::sort(errors.begin(), errors.end());
  const double typical = errors.empty() ? 0 : errors[errors.size() / 2];
  if (!options.fit.empty() && app.is_rank0()) {
    if (typical <= kMostError) {
      // What the file knows of other media and collectives stays.
      model = merged(std::move(model), before, options.keep_slower);
      write_file_atomically(options.fit, model.to_json());
      app.print(fmt::format("\nmodel: {}\n", options.fit));
    } else {
      app.print(
          "\nno model written: it does not foretell this machine, which is "
          "busy with something else\n");
    }
  }
  app.attach("collective_curves", tables);
  app.metric("median_error_on_unseen_sizes", typical);
  app.metric("worst_error_on_unseen_sizes", errors.empty() ? 0 : errors.back());
  app.check("collectives without a curve", without_curve, 0);
  if (!app.smoke()) {
    app.check("median error of the curves on unseen sizes", typical,
              kMostError);
  }
  direct.communicator.reset();
  group.shutdown();
}

}  // namespace

void declare(OptionSet& set, ExplorerOptions& options) {
  add_distributed_options(set, options.distributed);
  std::vector<std::string> names{"all"};
  for (const Collective what : kExplored) names.push_back(to_string(what));
  set.add("--collective", options.collective, names, "what is looked at");
  set.add("--explain", options.explain,
          "draw this algorithm step by step instead of measuring: ring, "
          "halving_doubling, ...");
  set.add("--ranks", options.ranks, "of --explain, which runs them as threads",
          1, 9);
  set.add("--count", options.count,
          "elements of --explain; 0: one for each rank", 0, kMostExplained);
  set.add("--svg", options.svg, "a file for the picture of --explain");
  set.add("--medium", options.medium, {"auto", "shm", "tcp", "mpi"},
          "what is measured; auto: shm within nodes");
  set.add("--max-bytes", options.max_bytes, "largest size");
  set.add("--rounds", options.rounds, "of the smallest sizes");
  set.add("--repeats", options.repeats, "of which the median counts");
  set.add_flag("--naive", options.naive, "measure naive algorithms, too");
  set.add(
      "--fit", options.fit,
      "write the fitted model to a file, or into it, for --collective-model");
  set.add_flag("--keep-slower", options.keep_slower,
               "where --fit FILE exists: keep the slower of old and new");
  set.preset("smoke", [&] {
    options.collective = "all";
    options.max_bytes = "64K";
    options.rounds = 3;
    options.repeats = 3;
  });
  set.preset("laptop", [] {});
}

void run_explorer(App& app, const ExplorerOptions& options) {
  if (options.explain.empty()) return explore(app, options);
  explain(app, options);
}

}  // namespace dai::hardware
