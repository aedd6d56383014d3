// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/curves.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "ch02_hardware/perf/collective_target.h"

namespace dai::hardware {
namespace {

double median(std::vector<double> numbers) {
  if (numbers.empty()) return std::numeric_limits<double>::infinity();
  std::sort(numbers.begin(), numbers.end());
  return numbers[numbers.size() / 2];
}

// The algorithm with the least time at each size, where that changes.
std::vector<Crossover> changes(const Curves& curves,
                               double (*time)(const CurvePoint&)) {
  std::map<double, std::pair<double, std::string>> best;
  for (const Curve& curve : curves.curves) {
    for (const CurvePoint& point : curve.points) {
      const auto found = best.find(point.bytes);
      if (found == best.end() || time(point) < found->second.first) {
        best[point.bytes] = {time(point), curve.algorithm};
      }
    }
  }
  std::vector<Crossover> all;
  for (const auto& [bytes, fastest] : best) {
    if (all.empty() || all.back().algorithm != fastest.second) {
      all.push_back({bytes, fastest.second});
    }
  }
  return all;
}

}  // namespace

Curve fit_curve(Collective what, const std::string& algorithm,
                const std::string& medium, int ranks,
                const std::vector<double>& bytes,
                const std::vector<double>& measured_s) {
  Curve curve;
  curve.algorithm = algorithm;
  const AlgorithmCost cost = cost_of(what, algorithm, ranks);
  std::vector<CostSample> all, seen;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    all.push_back({cost, bytes[i], measured_s[i]});
    if (i % 2 == 0) seen.push_back(all.back());
  }
  const AlgorithmModel half = fit_model(what, algorithm, medium, seen);
  std::vector<double> errors;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CurvePoint point{bytes[i], measured_s[i], half.seconds(bytes[i], ranks),
                     i % 2 == 1};
    if (point.held_out) {
      errors.push_back(std::abs(point.predicted_s / point.measured_s - 1));
    }
    curve.points.push_back(point);
  }
  curve.held_out_error = median(errors);
  curve.model = fit_model(what, algorithm, medium, all);
  return curve;
}

Curves measure_curves(Communicator& group, Collective what,
                      const CurveOptions& options) {
  Transport& t = group.transport();
  Curves curves;
  curves.what = what;
  curves.medium = t.medium();
  curves.ranks = t.size();
  const double parts = size_bytes(what, 1, 1, t.size());
  const std::size_t largest =
      static_cast<std::size_t>(options.sizes.back()) + 64;
  std::vector<std::byte> input(largest), output(largest);
  for (const Algorithm& algorithm : algorithms()) {
    // A hierarchical one is made of others, which are measured by themselves.
    if (algorithm.collective != what || (algorithm.naive && !options.naive) ||
        std::strcmp(algorithm.name, "hierarchical") == 0) {
      continue;
    }
    DirectTarget target(group, algorithm.name);
    std::vector<double> bytes, seconds;
    for (const double size : options.sizes) {
      Operands o;
      o.input = input.data();
      // In place, where training does it so.
      const bool in_place = what == Collective::kAllReduce;
      o.output = in_place ? input.data() : output.data();
      o.count = static_cast<std::size_t>(size / 4 / parts);
      if (o.count == 0 || !algorithm.runs_on(o.bytes(), t)) continue;
      const int rounds = std::max(
          2, static_cast<int>(options.rounds * std::min(1.0, 65536 / size)));
      std::vector<double> times;
      for (int i = 0; i < options.repeats; ++i) {
        times.push_back(time_collective(target, what, o, 1, rounds).max_s);
      }
      bytes.push_back(size_bytes(what, o.count, 4, t.size()));
      seconds.push_back(median(times));
    }
    if (bytes.empty()) continue;
    curves.curves.push_back(fit_curve(what, algorithm.name, curves.medium,
                                      t.size(), bytes, seconds));
  }
  return curves;
}

std::vector<Crossover> measured_crossovers(const Curves& curves) {
  return changes(curves, [](const CurvePoint& p) { return p.measured_s; });
}
std::vector<Crossover> predicted_crossovers(const Curves& curves) {
  return changes(curves, [](const CurvePoint& p) { return p.predicted_s; });
}

}  // namespace dai::hardware
