// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/perf_app.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "ch02_hardware/perf/c10d_target.h"
#include "ch02_hardware/perf/direct_group.h"
#include "common/app.h"
#include "common/errors.h"
#include "common/rank_status.h"

namespace dai::hardware {
namespace {

constexpr Collective kMeasured[] = {
    Collective::kAllReduce, Collective::kReduce,        Collective::kBroadcast,
    Collective::kAllGather, Collective::kReduceScatter, Collective::kGather,
    Collective::kScatter,   Collective::kAllToAll};

std::vector<std::string> collective_names() {
  std::vector<std::string> names{"all"};
  for (const Collective what : kMeasured) names.push_back(to_string(what));
  return names;
}

PerfOptions perf_options(const PerfAppOptions& given, std::uint64_t seed) {
  PerfOptions options;
  options.min_bytes = parse_bytes(given.min_bytes);
  options.max_bytes = parse_bytes(given.max_bytes);
  options.step_bytes = parse_bytes(given.step_bytes);
  options.factor = static_cast<int>(given.factor);
  options.rounds = static_cast<int>(given.rounds);
  options.warm_up = static_cast<int>(given.warm_up);
  options.check = given.check != 0;
  options.dtype = dtype_from_name(given.dtype);
  options.op = reduce_op_from_name(given.op);
  options.root = static_cast<int>(given.root);
  options.seed = seed;
  return options;
}

// Whether the library is called without c10d in between.
bool is_direct(const PerfAppOptions& options) {
  return options.distributed.backend == "dai" && options.via != "c10d";
}

// Whatever would be parsed and then not be heeded.
void check_way(const PerfAppOptions& options) {
  const bool own = options.distributed.backend == "dai";
  const bool chosen = options.algorithm != "auto" || options.medium != "auto" ||
                      !options.model_file.empty();
  if (!own && (chosen || options.via == "direct")) {
    throw UsageError(
        "--algorithm, --medium, --collective-model and --via direct are this "
        "chapter's own: they need --backend dai");
  }
  if (own && options.via == "c10d" && chosen) {
    throw UsageError(
        "--algorithm, --medium and --collective-model need --via direct; "
        "through c10d, DAI_ALGORITHM (all_reduce=ring), DAI_MEDIUM and "
        "DAI_COLLECTIVE_MODEL choose");
  }
  if (!is_direct(options)) return;
  for (const char* name :
       {"DAI_ALGORITHM", "DAI_MEDIUM", "DAI_COLLECTIVE_MODEL"}) {
    if (std::getenv(name)) {
      throw UsageError(fmt::format(
          "{} is for --via c10d; without it, --algorithm, --medium and "
          "--collective-model choose",
          name));
    }
  }
}

bool measures(const PerfAppOptions& given, Collective what) {
  return given.collective == "all" || given.collective == to_string(what);
}

void check_dtype(const PerfAppOptions& given, PerfOptions options, int ranks) {
  for (const Collective what : kMeasured) {
    if (!measures(given, what)) continue;
    options.what = what;
    check_options(options, ranks);
    const bool odd =
        options.dtype == DType::kBool || options.dtype == DType::kInt16;
    if (given.distributed.backend == "gloo" && odd && reduces(what)) {
      throw UsageError(fmt::format(
          "-d {}: Gloo {}; measure it on another backend, or a collective that "
          "adds nothing",
          to_string(options.dtype),
          options.dtype == DType::kBool ? "adds bools as bytes"
                                        : "does not reduce it"));
    }
  }
}

// What cannot work is refused before anything is measured.
void check_algorithm(const PerfAppOptions& given, const PerfOptions& options,
                     int ranks) {
  const std::string& name = given.algorithm;
  if (name == "auto") return;
  if (given.collective == "all") {
    throw UsageError(fmt::format(
        "--algorithm {} needs one --collective, such as all_reduce", name));
  }
  if (is_canonical(name)) {
    if (given.collective != "all_reduce" || options.op != ReduceOp::kSum) {
      throw UsageError(fmt::format(
          "algorithm {} is a sum: --collective all_reduce -o sum", name));
    }
    if (name == "canonical" && kCanonicalMicrobatches % ranks != 0) {
      throw UsageError(fmt::format(
          "algorithm canonical shares {} microbatches evenly: {} ranks cannot",
          kCanonicalMicrobatches, ranks));
    }
    if (name == "fixed_point" && options.dtype != DType::kFloat32 &&
        options.dtype != DType::kBFloat16 && options.dtype != DType::kFloat16) {
      throw UsageError(fmt::format("algorithm fixed_point does not sum {}",
                                   to_string(options.dtype)));
    }
    return;
  }
  for (const Collective what : kMeasured) {
    if (given.collective != to_string(what)) continue;
    const Needs needs = algorithm_by_name(what, name).needs;
    if (needs != Needs::kNothing && given.medium != "auto" &&
        given.medium != "shm") {
      throw UsageError(
          fmt::format("algorithm {} needs shared memory: --medium "
                      "{} has none",
                      name, given.medium));
    }
    if (needs == Needs::kSlots &&
        options.max_bytes > SharedWindow::kSlotBytes) {
      throw UsageError(fmt::format("algorithm {} goes up to -e {}", name,
                                   SharedWindow::kSlotBytes));
    }
  }
}

nlohmann::ordered_json json_of(const std::optional<PerfResult>& half) {
  if (!half) return nullptr;
  nlohmann::ordered_json json = {{"time_us", half->time.mean_s * 1e6},
                                 {"max_over_ranks_us", half->time.max_s * 1e6},
                                 {"algbw_gb_per_s", half->algbw_gb_per_s},
                                 {"busbw_gb_per_s", half->busbw_gb_per_s}};
  if (half->wrong) json["wrong_elements"] = *half->wrong;
  return json;
}

struct Totals {
  double wrong = 0, busbw_gb_per_s = 0;
  std::int64_t halves = 0, checked = 0;
  void add(const std::optional<PerfResult>& half) {
    if (!half) return;
    ++halves;
    busbw_gb_per_s += half->busbw_gb_per_s;
    if (!half->wrong) return;
    ++checked;
    wrong += static_cast<double>(*half->wrong);
  }
};

}  // namespace

void declare(OptionSet& set, PerfAppOptions& options) {
  options.distributed.backend = "dai";
  add_distributed_options(set, options.distributed);
  set.add("--collective", options.collective, collective_names(),
          "what is measured");
  set.add(
      "--algorithm", options.algorithm,
      "of this chapter, such as ring, canonical or fixed_point; auto: as the "
      "fitted model says");
  set.add(
      "--medium", options.medium, {"auto", "shm", "tcp", "mpi"},
      "what this chapter's transport uses; auto: shm within nodes; mpi: under "
      "mpirun");
  set.add("--via", options.via, {"auto", "direct", "c10d"},
          "backend dai without c10d, or as a training program calls it; auto: "
          "direct");
  set.add("--collective-model", options.model_file,
          "a file of ch02_collective_explorer --fit; else the built-in one");
  set.add("-b,--min-bytes", options.min_bytes, "first size: 512, 8K, 64M, 1G");
  set.add("-e,--max-bytes", options.max_bytes, "last size");
  set.add("-f,--factor", options.factor,
          "from size to size; below 2: in steps of -i", 0);
  set.add("-i,--step-bytes", options.step_bytes, "from size to size, if no -f");
  set.add("-n,--rounds", options.rounds, "timed together, for each size");
  set.add("-w,--warm-up", options.warm_up, "rounds before those", 0);
  set.add("-c,--check", options.check, "1: check the results, 0: do not", 0, 1);
  set.add("-o,--op", options.op, "sum, avg, min, max or prod");
  set.add("-d,--dtype", options.dtype, "float32, bfloat16, int64, ...");
  set.add("-r,--root", options.root, "for collectives that have one", 0);
  set.preset("smoke", [&] {
    options.collective = "all";
    options.min_bytes = "4";
    options.max_bytes = "256K";
    options.factor = 8;
    options.rounds = 3;
    options.warm_up = 1;
  });
  set.preset("laptop", [] {});
}

void run_collective_perf(App& app, const PerfAppOptions& given) {
  PerfOptions options = perf_options(given, app.seed());
  const bool direct = is_direct(given);
  DistributedOptions distributed = given.distributed;
  // The ranks meet over Gloo, which then has nothing more to do.
  if (direct) distributed.backend = "gloo";
  std::shared_ptr<const CollectiveModel> model;
  auto group = ProcessGroup::connect(
      app.launch(), distributed,
      [&] {
        model = load_model(given.model_file);
        check_medium(app.launch(), given.medium);
        check_way(given);
        check_dtype(given, options, app.launch().world_size);
        check_algorithm(given, options, app.launch().world_size);
      },
      "ch02_collective_perf");
  DirectGroup own;
  std::unique_ptr<CollectiveTarget> target;
  if (direct) {
    own = connect_direct(app.launch(), group,
                         {.medium = given.medium,
                          .interface = given.distributed.interface,
                          .model = model,
                          .timeout_s = given.distributed.timeout_s});
    target = std::make_unique<DirectTarget>(*own.communicator, given.algorithm);
  } else {
    target = c10d_target(group);
  }
  app.print(fmt::format("# {}: {}\n", direct ? "direct" : "through c10d",
                        direct ? fmt::format("dai via {}, algorithm {}",
                                             own.description, given.algorithm)
                               : target->description()));
  // Not one by one, as through c10d: that would be measured, too.
  const auto status =
      direct ? RankStatusWriter::from_environment(app.launch().rank) : nullptr;
  Totals totals;
  nlohmann::ordered_json tables;
  for (const Collective what : kMeasured) {
    if (!measures(given, what)) continue;
    options.what = what;
    if (status)
      status->set(fmt::format("{}, measured directly", to_string(what)));
    app.print(fmt::format("#\n# {}\n{}\n", to_string(what), perf_heading()));
    auto rows = nlohmann::ordered_json::array();
    measure_collective(*target, options, [&](const PerfRow& row) {
      app.print(perf_line(options, row) + "\n");
      totals.add(row.out_of_place);
      totals.add(row.in_place);
      rows.push_back({{"size_bytes", row.size_bytes},
                      {"count", row.count},
                      {"out_of_place", json_of(row.out_of_place)},
                      {"in_place", json_of(row.in_place)}});
    });
    tables[to_string(what)] = rows;
  }
  const double mean = totals.halves ? totals.busbw_gb_per_s / totals.halves : 0;
  app.print(fmt::format("# mean busbw: {:.3f} GB/s\n", mean));
  app.metric("mean_busbw_gb_per_s", mean);
  app.attach("tables", tables);
  if (options.check) {
    app.check("wrong elements", totals.wrong, 0);
    app.check("measurements without a check",
              static_cast<double>(totals.halves - totals.checked), 0);
  } else {
    app.check("sizes without a measurement", totals.halves > 0 ? 0 : 1, 0);
  }
  own.communicator.reset();
  group.shutdown();
}

}  // namespace dai::hardware
