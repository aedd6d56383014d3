// SPDX-License-Identifier: Apache-2.0
#include "common/options.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "common/closest_match.h"
#include "common/errors.h"

namespace dai {
namespace {

constexpr const char* kPresets[] = {"smoke", "laptop", "gpu24", "gpu80",
                                    "node8x2"};

std::vector<std::string> option_names(const CLI::App& cli) {
  std::vector<std::string> names;
  for (const CLI::Option* option : cli.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

[[noreturn]] void refuse_unknown(const std::string& what,
                                 const std::string& given,
                                 const CLI::App& cli) {
  const auto names = option_names(cli);
  const std::string near = closest_match(given, names);
  throw UsageError(
      near.empty()
          ? fmt::format("unknown {} {}; --help lists what there is", what,
                        given)
          : fmt::format("unknown {} {}, did you mean {}?", what, given, near));
}

// A YAML file is a list of the flags' names and values: it becomes arguments
// that stand before those of the command line, where the last one wins.
std::vector<std::string> arguments_from_yaml(const std::string& path,
                                             const CLI::App& cli) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    throw UsageError(fmt::format("--config {}: cannot read the file", path));
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("--config {}:{}: {}", path,
                                 error.mark.line + 1, error.msg));
  } catch (const std::exception&) {  // a folder, a device
    throw UsageError(fmt::format("--config {}: not a readable file", path));
  }
  if (!root.IsMap()) {
    throw UsageError(fmt::format(
        "--config {}: a mapping of flag names to values is expected", path));
  }
  std::vector<std::string> arguments;
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const std::string where =
        fmt::format("--config {}:{}", path, entry.first.Mark().line + 1);
    if (!entry.first.IsScalar() || !entry.second.IsScalar()) {
      throw UsageError(where + ": one value for each key is expected");
    }
    const std::string key = entry.first.Scalar();
    const std::string flag = "--" + key;
    if (key == "config" || key == "help") {
      throw UsageError(where + ": " + key + " has no place in a file");
    }
    if (!seen.insert(key).second) {
      throw UsageError(where + ": " + key + " is given twice");
    }
    const CLI::Option* option = cli.get_option_no_throw(flag);
    if (option == nullptr) {
      const std::string near = closest_match(flag, option_names(cli));
      throw UsageError(fmt::format(
          "{}: unknown key {}{}", where, key,
          near.empty() ? "; the keys are the flags' names, see --help"
                       : fmt::format(", did you mean {}?", near.substr(2))));
    }
    arguments.push_back(flag + "=" + entry.second.Scalar());
  }
  return arguments;
}

// Reads one option ahead of the real parse; the last mention wins.
std::string look_ahead(const std::vector<std::string>& arguments,
                       const std::string& flag) {
  std::string value;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == flag && i + 1 < arguments.size()) {
      value = arguments[i + 1];
    } else if (arguments[i].rfind(flag + "=", 0) == 0) {
      value = arguments[i].substr(flag.size() + 1);
    }
  }
  return value;
}

bool wants_smoke(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const auto& a) {
    return a == "--smoke" || a == "--smoke=true";
  });
}

template <typename T>
void add_number(CLI::App& cli, const std::string& flag, T& value,
                const std::string& help, T min) {
  cli.add_option(flag, value, help)
      ->capture_default_str()
      ->type_name(std::is_integral_v<T> ? "N" : "X")
      ->check([min](const std::string& given) -> std::string {
        T number{};
        if (!CLI::detail::lexical_cast(given, number)) {
          return fmt::format("'{}' is not a number", given);
        }
        if (number >= min) return "";
        return fmt::format("{} is below the least value, {}", given, min);
      });
}

}  // namespace

void OptionSet::add(const std::string& flag, std::int64_t& value,
                    const std::string& help, std::int64_t min) {
  add_number(cli_, flag, value, help, min);
}

void OptionSet::add(const std::string& flag, double& value,
                    const std::string& help, double min) {
  add_number(cli_, flag, value, help, min);
}

void OptionSet::add(const std::string& flag, std::string& value,
                    const std::string& help) {
  cli_.add_option(flag, value, help)->capture_default_str()->type_name("TEXT");
}

void OptionSet::add(const std::string& flag, std::string& value,
                    const std::vector<std::string>& choices,
                    const std::string& help) {
  cli_.add_option(flag, value, help)
      ->capture_default_str()
      ->type_name(fmt::format("{}", fmt::join(choices, "|")))
      ->check([choices](const std::string& given) -> std::string {
        if (std::find(choices.begin(), choices.end(), given) != choices.end()) {
          return "";
        }
        return fmt::format("'{}' is none of {}", given,
                           fmt::join(choices, ", "));
      });
}

void OptionSet::add_flag(const std::string& flag, bool& value,
                         const std::string& help) {
  cli_.add_flag(flag, value, help);
}

void OptionSet::preset(const std::string& name, std::function<void()> apply) {
  presets_.emplace_back(name, std::move(apply));
}

bool parse_options(int argc, char** argv, const AppSpec& spec, App& app) {
  CLI::App cli(spec.shows, spec.name);
  cli.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  cli.footer(fmt::format(
      "Example:\n  {}\n\nExit codes: 0 ran and every check passed, 1 failed, "
      "2 wrong usage, 77 cannot run here.",
      spec.example));

  OptionSet set(cli);
  if (spec.declare) spec.declare(set);
  auto seed = static_cast<std::int64_t>(1234);
  bool smoke = false;
  std::string config;
  set.add("--seed", seed, "seed of every random stream", 0);
  set.add_flag("--smoke", smoke, "the smallest real run: --preset smoke");
  set.add("--preset", app.preset_, {std::begin(kPresets), std::end(kPresets)},
          "set of sizes");
  set.add("--config", config, "YAML file with the flags' names as keys");
  set.add("--json", app.json_path_, "write every number printed to this file");
  set.add("--trace", app.trace_path_, "write a Chrome/Perfetto trace here");
  set.add("--out", app.out_dir_, "folder for outputs");

  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string config_path = look_ahead(arguments, "--config");
  if (!config_path.empty()) {
    auto from_file = arguments_from_yaml(config_path, cli);
    arguments.insert(arguments.begin(), from_file.begin(), from_file.end());
  }
  const std::string asked = look_ahead(arguments, "--preset");
  const bool ask_smoke = wants_smoke(arguments);
  if (ask_smoke && !asked.empty() && asked != "smoke") {
    throw UsageError(
        fmt::format("--smoke and --preset {} contradict each other", asked));
  }
  const std::string chosen = ask_smoke ? "smoke" : asked;
  for (const auto& [name, apply] : set.presets_) {
    if (name == (chosen.empty() ? "laptop" : chosen)) apply();
  }
  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    cli.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    if (app.is_rank0()) fmt::print("{}", cli.help());
    return false;
  } catch (const CLI::ExtrasError&) {
    const auto rest = cli.remaining();
    refuse_unknown(rest.front().rfind("-", 0) == 0 ? "flag" : "argument",
                   rest.front().substr(0, rest.front().find('=')), cli);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  const bool known =
      chosen.empty() || chosen == "laptop" ||
      std::any_of(set.presets_.begin(), set.presets_.end(),
                  [&](const auto& preset) { return preset.first == chosen; });
  if (!known) {
    throw UsageError(fmt::format("{} has no preset {}", spec.name, chosen));
  }
  if (!chosen.empty()) app.preset_ = chosen;
  app.report_.seed = static_cast<std::uint64_t>(seed);
  return true;
}

}  // namespace dai
