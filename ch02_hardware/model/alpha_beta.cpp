// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/model/alpha_beta.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "common/embedded.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/strict_json.h"

DAI_EMBEDDED(collective_model_json);

namespace dai::hardware {

AlphaBeta fit_alpha_beta(std::span<const CostSample> samples) {
  if (samples.empty()) {
    throw std::invalid_argument("nothing to fit alpha and beta to");
  }
  // Minimises the sum of ((steps a + volume bytes b) / seconds - 1)^2.
  double xx = 0, xy = 0, yy = 0, x1 = 0, y1 = 0;
  for (const CostSample& sample : samples) {
    const double x = sample.cost.steps / sample.seconds;
    const double y = sample.cost.volume * sample.bytes / sample.seconds;
    xx += x * x;
    xy += x * y;
    yy += y * y;
    x1 += x;
    y1 += y;
  }
  const double determinant = xx * yy - xy * xy;
  AlphaBeta line;
  if (determinant > 1e-12 * xx * yy) {
    line.alpha_s = (x1 * yy - y1 * xy) / determinant;
    line.beta_s_per_byte = (y1 * xx - x1 * xy) / determinant;
  } else {
    // One size, or nothing but empty messages: all of it is one of the two.
    line.alpha_s = xx > 0 ? x1 / xx : 0;
    if (yy > xx) line = {0, y1 / yy};
  }
  if (line.alpha_s < 0) line = {0, yy > 0 ? y1 / yy : 0};
  if (line.beta_s_per_byte < 0) line = {xx > 0 ? x1 / xx : 0, 0};
  return line;
}

int size_class(double bytes) {
  return bytes <= 32768 ? 0 : bytes <= 2097152 ? 1 : bytes <= 8388608 ? 2 : 3;
}

AlgorithmModel fit_model(Collective what, const std::string& algorithm,
                         const std::string& medium,
                         std::span<const CostSample> samples) {
  AlgorithmModel model{what, algorithm, medium, {}};
  for (int at = 0; at < kSizeClasses; ++at) {
    // One size makes no line: the nearest of the other classes join in.
    std::vector<CostSample> here(samples.begin(), samples.end());
    const auto away = [&](const CostSample& sample) {
      return std::abs(size_class(sample.bytes) - at);
    };
    std::stable_sort(here.begin(), here.end(),
                     [&](const CostSample& a, const CostSample& b) {
                       return away(a) < away(b);
                     });
    std::set<double> sizes;
    std::size_t taken = 0;
    for (; taken < here.size(); ++taken) {
      if (away(here[taken]) > 0 && sizes.size() > 1) break;
      sizes.insert(here[taken].bytes);
    }
    here.resize(taken);
    model.lines[at] = fit_alpha_beta(here);
  }
  return model;
}

const AlgorithmModel* CollectiveModel::find(Collective what,
                                            const std::string& algorithm,
                                            const std::string& medium) const {
  for (const AlgorithmModel& model : algorithms) {
    if (model.what == what && model.algorithm == algorithm &&
        model.medium == medium) {
      return &model;
    }
  }
  return nullptr;
}

namespace {

constexpr Collective kCollectives[] = {
    Collective::kAllReduce, Collective::kReduce,        Collective::kBroadcast,
    Collective::kAllGather, Collective::kReduceScatter, Collective::kGather,
    Collective::kScatter,   Collective::kAllToAll,      Collective::kBarrier};

Collective collective_from(const std::string& name, const std::string& where) {
  for (const Collective what : kCollectives) {
    if (name == to_string(what)) return what;
  }
  refuse(where, "no collective is called {}", name);
}

}  // namespace

std::string CollectiveModel::to_json() const {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const AlgorithmModel& model : algorithms) {
    nlohmann::ordered_json row;
    row["collective"] = to_string(model.what);
    row["algorithm"] = model.algorithm;
    row["medium"] = model.medium;
    for (const AlphaBeta& line : model.lines) {
      row["alpha_ns"].push_back(std::round(line.alpha_s * 1e12) / 1e3);
      row["beta_ps_per_byte"].push_back(
          std::round(line.beta_s_per_byte * 1e15) / 1e3);
    }
    rows.push_back(row);
  }
  // A row a line, for diffs.
  std::string text = "{\"schema\": 1, \"algorithms\": [";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += (i ? ",\n " : "\n ") + rows[i].dump();
  }
  return text + "\n]}\n";
}

CollectiveModel CollectiveModel::from_file(const std::string& path) {
  constexpr std::size_t kMostBytes = 4 << 20;
  std::string text;
  try {
    text = read_file(path, kMostBytes);
  } catch (const std::exception& error) {
    throw UsageError(error.what());
  }
  return from_json(text, "'" + path + "'");
}

CollectiveModel CollectiveModel::from_json(const std::string& text,
                                           const std::string& where) {
  const auto json = parse_strict_json(text, where, 4);
  want_keys(json, {"schema", "algorithms"}, where);
  if (get_count(json, "schema", where) != 1) {
    refuse(where, "schema is not 1");
  }
  if (!json["algorithms"].is_array()) refuse(where, "algorithms is no list");
  CollectiveModel all;
  for (const auto& row : json["algorithms"]) {
    want_keys(
        row,
        {"collective", "algorithm", "medium", "alpha_ns", "beta_ps_per_byte"},
        where);
    AlgorithmModel model;
    model.what = collective_from(get_string(row, "collective", where), where);
    model.algorithm = get_string(row, "algorithm", where);
    model.medium = get_string(row, "medium", where);
    try {
      cost_of(model.what, model.algorithm, 2);
    } catch (const std::invalid_argument& error) {
      refuse(where, "{}", error.what());
    }
    for (const char* key : {"alpha_ns", "beta_ps_per_byte"}) {
      const auto& numbers = row[key];
      if (!numbers.is_array() || numbers.size() != kSizeClasses) {
        refuse(where, "{} is no list of {} numbers", key, kSizeClasses);
      }
      for (int at = 0; at < kSizeClasses; ++at) {
        if (!numbers[at].is_number() || numbers[at].get<double>() < 0) {
          refuse(where, "{} holds what is no time", key);
        }
        const double number = numbers[at].get<double>();
        if (key[0] == 'a')
          model.lines[at].alpha_s = number * 1e-9;
        else
          model.lines[at].beta_s_per_byte = number * 1e-12;
      }
    }
    all.algorithms.push_back(std::move(model));
  }
  return all;
}

const CollectiveModel& CollectiveModel::built_in() {
  static const CollectiveModel model = from_json(
      std::string(embedded_collective_model_json()), "the built-in model");
  return model;
}

}  // namespace dai::hardware
