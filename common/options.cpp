// SPDX-License-Identifier: Apache-2.0
#include "common/options.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "common/closest_match.h"
#include "common/errors.h"
#include "common/file.h"

namespace dai {
namespace {

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

struct FileEntry {
  std::string argument;  // "--steps=200"
  std::string where;     // "--config run.yaml:3"
};

// A YAML file is a list of the flags' names and values: each becomes an
// argument that is read before those of the command line.
std::vector<FileEntry> entries_of_yaml(const std::string& path,
                                       const CLI::App& cli) {
  YAML::Node root;
  try {
    // The file is read here: yaml-cpp leaks when it is given a folder.
    root = YAML::Load(read_file(path));
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("--config {}:{}: {}", path,
                                 error.mark.line + 1, error.msg));
  } catch (const std::exception& error) {
    throw UsageError(fmt::format("--config: {}", error.what()));
  }
  if (!root.IsMap()) {
    throw UsageError(fmt::format(
        "--config {}: a mapping of flag names to values is expected", path));
  }
  std::vector<FileEntry> entries;
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
    entries.push_back({flag + "=" + entry.second.Scalar(), where});
  }
  return entries;
}

// Sets the variables that the arguments name; the last mention wins. Throws
// CLI::CallForHelp, and UsageError for what cannot be accepted.
void parse(CLI::App& cli, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    cli.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    throw;
  } catch (const CLI::ExtrasError&) {
    const auto rest = cli.remaining();
    refuse_unknown(rest.front().rfind("-", 0) == 0 ? "flag" : "argument",
                   rest.front().substr(0, rest.front().find('=')), cli);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what();
    throw UsageError(what.substr(0, what.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
}

void parse(CLI::App& cli, const std::vector<FileEntry>& entries) {
  for (const FileEntry& entry : entries) {
    try {
      parse(cli, std::vector{entry.argument});
    } catch (const UsageError& error) {
      throw UsageError(entry.where + ": " + error.what());
    }
  }
}

std::string chosen_preset(bool smoke, const std::string& preset) {
  if (smoke && !preset.empty() && preset != "smoke") {
    throw UsageError(
        fmt::format("--smoke and --preset {} contradict each other", preset));
  }
  return smoke ? "smoke" : preset;
}

template <typename T>
void add_number(CLI::App& cli, const std::string& flag, T& value,
                const std::string& help, T min, T max) {
  cli.add_option(flag, value, help)
      ->capture_default_str()
      ->type_name(std::is_integral_v<T> ? "N" : "X")
      ->check([min, max](const std::string& given) -> std::string {
        T number{};
        if constexpr (std::is_integral_v<T>) {  // CLI11 would take the nearest
          const auto read = std::from_chars(
              given.data(), given.data() + given.size(), number);
          if (read.ec == std::errc::result_out_of_range) {
            return given.front() == '-'
                       ? fmt::format("{} is below the least value, {}", given,
                                     min)
                       : fmt::format("{} is above the largest value, {}", given,
                                     max);
          }
        }
        if (!CLI::detail::lexical_cast(given, number)) {
          return fmt::format("'{}' is not a number", given);
        }
        if (!(number >= min)) {
          return fmt::format("{} is below the least value, {}", given, min);
        }
        if (number <= max) return "";
        return fmt::format("{} is above the largest value, {}", given, max);
      });
}

}  // namespace

void OptionSet::add(const std::string& flag, std::int64_t& value,
                    const std::string& help, std::int64_t min,
                    std::int64_t max) {
  add_number(cli_, flag, value, help, min, max);
}

void OptionSet::add(const std::string& flag, double& value,
                    const std::string& help, double min) {
  add_number(cli_, flag, value, help, min, std::numeric_limits<double>::max());
}

void OptionSet::add(const std::string& flag, std::string& value,
                    const std::string& help) {
  cli_.add_option(flag, value, help)
      ->capture_default_str()
      ->type_name("TEXT")
      ->check([](const std::string& given) -> std::string {
        return given.empty() ? "an empty value says nothing" : "";
      });
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

void OptionSet::apply(const std::string& preset) const {
  for (const auto& [name, apply] : presets_) {
    if (name == preset) apply();
  }
}

std::vector<std::string> OptionSet::preset_names(
    const std::string& standard) const {
  std::vector<std::string> names;
  for (const auto& preset : presets_) names.push_back(preset.first);
  if (std::find(names.begin(), names.end(), standard) == names.end()) {
    names.insert(names.begin(), standard);
  }
  return names;
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
  std::string preset = app.preset_;  // for --help to show
  std::string config;
  set.add("--seed", seed, "seed of every random stream", 0,
          std::numeric_limits<std::int64_t>::max());
  set.add_flag("--smoke", smoke, "the smallest real run: --preset smoke");
  set.add("--preset", preset, set.preset_names(app.preset_), "set of sizes");
  set.add("--config", config, "YAML file with the flags' names as keys");
  set.add("--json", app.json_path_, "write every number printed to this file");
  set.add("--trace", app.trace_path_, "write a Chrome/Perfetto trace here");
  set.add("--out", app.out_dir_,
          "folder for what the app writes, with report.json as by --json");

  // A preset lies under the file, and the file under the command line; but
  // which preset and which file these two say. So all is read once to learn
  // that, and once more on top of the preset.
  const std::vector<std::string> command_line(argv + 1, argv + argc);
  preset.clear();
  try {
    parse(cli, command_line);
  } catch (const CLI::CallForHelp&) {
    // The values that a run without options has.
    set.apply(app.preset_);
    preset = app.preset_;
    for (CLI::Option* option : cli.get_options()) option->capture_default_str();
    if (app.is_rank0()) fmt::print("{}", cli.help());
    return false;
  }
  std::string chosen = chosen_preset(smoke, preset);
  std::vector<FileEntry> entries;
  if (!config.empty()) {
    entries = entries_of_yaml(config, cli);
    smoke = false;
    preset.clear();
    parse(cli, entries);
    if (chosen.empty()) chosen = chosen_preset(smoke, preset);
  }
  if (chosen.empty()) chosen = app.preset_;
  set.apply(chosen);
  parse(cli, entries);
  parse(cli, command_line);
  app.preset_ = chosen;
  app.report_.seed = static_cast<std::uint64_t>(seed);
  return true;
}

}  // namespace dai
