// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/network/network_app.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "ch02_hardware/network/link_judge.h"
#include "ch02_hardware/network/pair_perf.h"
#include "ch02_hardware/perf/collective_target.h"
#include "ch02_hardware/perf/direct_group.h"
#include "ch02_hardware/perf/perf_table.h"
#include "common/app.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using Matrix = std::vector<std::vector<double>>;

void print_matrix(App& app, const char* title, const Matrix& numbers,
                  double scale, const char* format) {
  std::string text = fmt::format("\n{}\n{:>8}", title, "from\\to");
  for (std::size_t b = 0; b < numbers.size(); ++b) {
    text += fmt::format("{:>9}", b);
  }
  for (std::size_t a = 0; a < numbers.size(); ++a) {
    text += fmt::format("\n{:>8}", a);
    for (std::size_t b = 0; b < numbers.size(); ++b) {
      text += a == b ? fmt::format("{:>9}", "-")
                     : fmt::format(fmt::runtime(format), numbers[a][b] * scale);
    }
  }
  app.print(text + "\n");
}

void print_sizes(App& app, PairPerf& pair, std::size_t max_bytes) {
  app.print(fmt::format(
      "ranks 0 and 1, by size\n{:>9} {:>12} {:>12} {:>12} {:>14}\n{:>9} "
      "{:>12} {:>12} {:>12} {:>14}\n",
      "size", "latency", "bandwidth", "bidirect.", "message rate", "(B)",
      "(us)", "(GB/s)", "(GB/s)", "(1/s)"));
  auto rows = nlohmann::ordered_json::array();
  for (std::size_t bytes = 8; bytes <= max_bytes; bytes *= 8) {
    const double latency = pair.latency_s(0, 1, bytes);
    const double one_way = pair.bandwidth(0, 1, bytes);
    const double both = pair.bidirectional_bandwidth(0, 1, bytes);
    const double rate = one_way / static_cast<double>(bytes);
    app.print(fmt::format("{:>9} {:>12.2f} {:>12.3f} {:>12.3f} {:>14.0f}\n",
                          bytes, latency * 1e6, one_way / 1e9, both / 1e9,
                          rate));
    rows.push_back({{"size_bytes", bytes},
                    {"latency_us", latency * 1e6},
                    {"bandwidth_gb_per_s", one_way / 1e9},
                    {"bidirectional_gb_per_s", both / 1e9},
                    {"messages_per_s", rate}});
  }
  app.attach("sizes", rows);
}

// Lowest, mean and highest over the pairs, as OSU reports over ranks.
void summarise(App& app, const char* name, const Matrix& numbers,
               double scale) {
  double low = 0, high = 0, sum = 0;
  int pairs = 0;
  for (std::size_t a = 0; a < numbers.size(); ++a) {
    for (std::size_t b = 0; b < numbers.size(); ++b) {
      if (a == b) continue;
      const double x = numbers[a][b] * scale;
      low = pairs == 0 ? x : std::min(low, x);
      high = std::max(high, x);
      sum += x;
      ++pairs;
    }
  }
  app.print(fmt::format("{}: avg {:.3f}, min {:.3f}, max {:.3f}\n", name,
                        sum / pairs, low, high));
  app.metric(fmt::format("avg_{}", name), sum / pairs);
  app.metric(fmt::format("min_{}", name), low);
  app.metric(fmt::format("max_{}", name), high);
}

}  // namespace

void declare(OptionSet& set, NetworkAppOptions& options) {
  add_distributed_options(set, options.distributed);
  set.add("--medium", options.medium, {"auto", "shm", "tcp", "mpi"},
          "what the messages go through; auto: shm within nodes, tcp across");
  set.add("--max-bytes", options.max_bytes, "largest message of ranks 0 and 1");
  set.add("--pair-bytes", options.pair_bytes,
          "message of the bandwidth of all pairs");
  set.add("--window", options.window, "messages under way at once");
  set.add("--effort", options.effort,
          "share of OSU's rounds (10000 for small messages)");
  set.add("--most-seconds", options.most_seconds, "for one measurement");
  set.preset("smoke", [&] {
    options.max_bytes = "64K";
    options.effort = 0.005;
    options.most_seconds = 0.2;
  });
  set.preset("laptop", [] {});
}

void run_network_perf(App& app, const NetworkAppOptions& options) {
  const std::size_t max_bytes = parse_bytes(options.max_bytes);
  const std::size_t pair_bytes = parse_bytes(options.pair_bytes);
  auto group = ProcessGroup::connect(
      app.launch(), options.distributed,
      [&] {
        check_medium(app.launch(), options.medium);
        if (app.launch().world_size < 2) {
          throw UsageError("a link has two ends: start 2 or more ranks (-n 2)");
        }
        if (max_bytes < 8 || pair_bytes < 8) {
          throw UsageError("--max-bytes and --pair-bytes: at least 8");
        }
      },
      "ch02_network_perf");
  auto direct = connect_direct(app.launch(), group,
                               {.medium = options.medium,
                                .interface = options.distributed.interface,
                                .model = nullptr,
                                .timeout_s = options.distributed.timeout_s});
  Transport& t = direct.communicator->transport();
  const int ranks = t.size();
  app.print(fmt::format("# {}\n", direct.description));
  PairPerf pair(t, {.effort = options.effort,
                    .most_seconds = options.most_seconds,
                    .window = static_cast<int>(options.window)});
  print_sizes(app, pair, max_bytes);

  Matrix latency(ranks, std::vector<double>(ranks, 0)), speed = latency;
  for (int a = 0; a < ranks; ++a) {
    for (int b = 0; b < ranks; ++b) {
      if (a == b) continue;
      latency[a][b] = pair.latency_s(a, b, 8);
      speed[a][b] = pair.bandwidth(a, b, pair_bytes);
    }
  }
  print_matrix(app, "alpha: latency of 8 bytes (us)", latency, 1e6, "{:>9.2f}");
  print_matrix(app, "1 / beta: bandwidth (GB/s)", speed, 1e-9, "{:>9.3f}");
  summarise(app, "latency_us", latency, 1e6);
  summarise(app, "bandwidth_gb_per_s", speed, 1e-9);

  std::vector<int> nodes;
  for (int rank = 0; rank < ranks; ++rank) nodes.push_back(t.node_of(rank));
  // The most ranks of a node, against this rank's cores.
  int most_ranks = 0;
  for (const int node : nodes) {
    most_ranks = std::max(most_ranks, static_cast<int>(std::count(
                                          nodes.begin(), nodes.end(), node)));
  }
  const bool crowded =
      most_ranks > static_cast<int>(std::thread::hardware_concurrency());
  const LinkVerdict verdict =
      judge_links(speed, nodes, direct.node_names, !crowded);
  app.print(fmt::format("\nverdict: {}\n", verdict.says));
  app.metric("slowest_pair_over_best", verdict.worst_ratio);
  auto links = nlohmann::ordered_json::array();
  for (int a = 0; a < ranks; ++a) {
    for (int b = 0; b < ranks; ++b) {
      if (a == b) continue;
      links.push_back({{"from", a},
                       {"to", b},
                       {"alpha_us", latency[a][b] * 1e6},
                       {"beta_ns_per_byte", 1e9 / speed[a][b]}});
    }
  }
  app.attach("links", links);
  app.attach("verdict", {{"says", verdict.says},
                         {"slow_nodes", verdict.slow_nodes},
                         {"node_names", direct.node_names},
                         {"slow_pairs", verdict.slow_pairs}});
  DirectTarget all(*direct.communicator, "auto");
  app.check("bytes that were not what was sent",
            all.sum(static_cast<double>(pair.wrong_bytes())), 0);
  direct.communicator.reset();
  group.shutdown();
}

}  // namespace dai::hardware
