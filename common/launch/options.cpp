// SPDX-License-Identifier: Apache-2.0
#include "common/launch/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <string_view>

#include "common/closest_match.h"
#include "common/errors.h"

namespace dai::launch {
namespace {

using Words = std::vector<std::string>;

// A library such as CLI11 would accept flags behind the program's name and
// tell dashes from underscores; torchrun's grammar is a table and a loop.
struct Flag {
  std::string name;         // "--nnodes"
  std::string placeholder;  // "N|MIN:MAX"; empty: the flag takes no value
  std::string help;
  std::function<void(LaunchOptions&, const std::string&)> apply;
};

[[noreturn]] void refuse(std::string_view flag, const std::string& given,
                         std::string_view accepted) {
  throw UsageError(
      fmt::format("{} takes {}, not \"{}\"", flag, accepted, given));
}

template <typename Number>
Number number(std::string_view flag, const std::string& text, Number min,
              Number max, std::string_view accepted) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  // Written so that a NaN is refused as well.
  const bool inside = value >= min && value <= max;
  if (error != std::errc() || stop != end || !inside) {
    refuse(flag, text, accepted);
  }
  return value;
}

int whole(std::string_view flag, const std::string& text, int min,
          std::string_view accepted, int max = 1'000'000) {
  return number<int>(flag, text, min, max, accepted);
}

double seconds(std::string_view flag, const std::string& text, double min) {
  return number<double>(flag, text, min, 1e6,
                        fmt::format("seconds from {} to 1e6", min));
}

int port(std::string_view flag, const std::string& text) {
  return whole(flag, text, 0, "a port from 0 to 65535", 65535);
}

void apply_nnodes(LaunchOptions& o, const std::string& text) {
  constexpr auto kAccepted = "N or MIN:MAX with 1 <= MIN <= MAX";
  const auto colon = text.find(':');
  o.min_nodes = whole("--nnodes", text.substr(0, colon), 1, kAccepted);
  o.max_nodes = o.min_nodes;
  if (colon != std::string::npos) {
    o.max_nodes = whole("--nnodes", text.substr(colon + 1), 1, kAccepted);
  }
  if (o.min_nodes > o.max_nodes) refuse("--nnodes", text, kAccepted);
}

// HOST, HOST:PORT or [IPV6]:PORT; a bare IPv6 address has many colons.
void apply_endpoint(LaunchOptions& o, const std::string& text) {
  std::string host = text;
  const auto colon = text.rfind(':');
  const bool bracketed = text.starts_with('[');
  const bool has_port =
      colon != std::string::npos &&
      (bracketed ? text.find(']') == colon - 1 : text.find(':') == colon);
  if (has_port) {
    o.rdzv_port = port("--rdzv-endpoint", text.substr(colon + 1));
    host = text.substr(0, colon);
  }
  if (bracketed && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) refuse("--rdzv-endpoint", text, "HOST or HOST:PORT");
  o.rdzv_host = host;
}

int streams(std::string_view flag, const std::string& text) {
  return whole(flag, text, 0, "0 (none), 1 (stdout), 2 (stderr) or 3 (both)",
               3);
}

std::vector<Flag> make_flags() {
  using O = LaunchOptions;
  using S = const std::string;
  return {
      {"--nproc-per-node", "N", "ranks on this node (default 1)",
       [](O& o, S& v) {
         o.nproc_per_node = whole("--nproc-per-node", v, 1,
                                  "a number of ranks from 1 to 4096 "
                                  "(torchrun's auto, gpu and cpu are not "
                                  "known here)",
                                  4096);
       }},
      {"--nnodes", "N|MIN:MAX", "nodes; MIN:MAX survives the loss of some",
       apply_nnodes},
      {"--node-rank", "R", "this node's number; 0 hosts the rendezvous",
       [](O& o, S& v) {
         o.node_rank = whole("--node-rank", v, 0, "a number from 0");
       }},
      {"--master-addr", "HOST", "where rank 0 is (static form: and meets)",
       [](O& o, S& v) { o.master_addr = v; }},
      {"--master-port", "PORT", "its port (default: any free one)",
       [](O& o, S& v) { o.master_port = port("--master-port", v); }},
      {"--rdzv-endpoint", "HOST[:PORT]", "where nodes meet (port 29400)",
       apply_endpoint},
      {"--rdzv-id", "NAME", "name of the job; all nodes give the same",
       [](O& o, S& v) { o.rdzv_id = v; }},
      {"--rdzv-backend", "NAME", "accepted: c10d, static; dai_launch has one",
       [](O&, S& v) {
         if (v != "c10d" && v != "static") {
           refuse("--rdzv-backend", v, "c10d or static");
         }
       }},
      {"--standalone", "", "one node, any free port",
       [](O& o, S&) { o.standalone = true; }},
      {"--max-restarts", "N", "restarts of the whole group (default 0)",
       [](O& o, S& v) {
         o.max_restarts = whole("--max-restarts", v, 0, "a number from 0");
       }},
      {"--join-timeout-s", "S", "give up when MIN are not there (default 60)",
       [](O& o, S& v) {
         o.join_timeout_s = seconds("--join-timeout-s", v, 0.1);
       }},
      {"--last-call-s", "S", "wait for more nodes than MIN (default 5)",
       [](O& o, S& v) { o.last_call_s = seconds("--last-call-s", v, 0); }},
      {"--heartbeat-s", "S", "a node silent so long is lost (default 15)",
       [](O& o, S& v) { o.heartbeat_s = seconds("--heartbeat-s", v, 0.3); }},
      {"--tee", "0|1|2|3", "1 stdout, 2 stderr, 3 both: prefixed and to files",
       [](O& o, S& v) { o.tee = streams("--tee", v); }},
      {"--redirects", "0|1|2|3", "the same streams, to files alone",
       [](O& o, S& v) { o.redirects = streams("--redirects", v); }},
      {"--log-dir", "DIR", "files go to DIR/attempt_K/RANK/stdout.log",
       [](O& o, S& v) { o.log_dir = v; }},
      {"--local-addr", "ADDR", "address of this node that others can reach",
       [](O& o, S& v) { o.local_addr = v; }},
      {"--role", "NAME", "ROLE_NAME of the ranks (default \"default\")",
       [](O& o, S& v) { o.role = v; }},
      {"--no-python", "", "accepted: dai_launch starts any program",
       [](O&, S&) {}},
      {"--monitor-interval", "S", "accepted: an ended rank is seen at once",
       [](O&, S& v) { seconds("--monitor-interval", v, 0); }},
      {"--help", "", "this text", [](O& o, S&) { o.help = true; }},
  };
}

const std::vector<Flag>& flags() {
  static const std::vector<Flag> kFlags = make_flags();
  return kFlags;
}

const Flag& find_flag(const std::string& given) {
  std::string name = given;
  std::replace(name.begin(), name.end(), '_', '-');
  if (name == "-h") name = "--help";
  if (name == "-n" || name == "-np") {
    throw UsageError(
        fmt::format("unknown flag {}: --nproc-per-node N gives the ranks of a "
                    "node",
                    given));
  }
  if (name == "-m" || name == "--module") {
    throw UsageError(
        fmt::format("unknown flag {}: the program is given as it is, "
                    "python3 -m MODULE",
                    given));
  }
  std::vector<std::string> names;
  for (const Flag& flag : flags()) {
    if (flag.name == name) return flag;
    names.emplace_back(flag.name);
  }
  const std::string nearest = closest_match(name, names);
  throw UsageError(
      nearest.empty()
          ? fmt::format("unknown flag {} (--help lists them)", given)
          : fmt::format("unknown flag {}, did you mean {}?", given, nearest));
}

void check_together(const LaunchOptions& o) {
  if (o.program.empty()) {
    throw UsageError(
        "no program given: dai_launch [FLAGS] PROGRAM [ARGUMENTS]");
  }
  if (o.standalone && (o.max_nodes > 1 || !o.rdzv_host.empty())) {
    throw UsageError(
        "--standalone means one node: it goes with neither "
        "--nnodes > 1 nor --rdzv-endpoint");
  }
  if (o.node_rank >= o.max_nodes) {
    throw UsageError(fmt::format("--node-rank {} needs --nnodes > {}, not {}",
                                 o.node_rank, o.node_rank, o.max_nodes));
  }
  // torchrun's documentation writes localhost:0 for jobs on one node.
  if (o.max_nodes > 1 && o.rdzv_port == 0) {
    throw UsageError("--rdzv-endpoint of several nodes needs a port, not 0");
  }
  if (o.max_nodes > 1 && o.rdzv_host.empty()) {
    if (o.master_addr.empty() || o.master_port == 0 || o.node_rank < 0) {
      throw UsageError(
          "several nodes need --rdzv-endpoint HOST:PORT, or all "
          "of --node-rank, --master-addr and --master-port");
    }
  }
  if ((o.tee | o.redirects) != kNoStream && o.log_dir.empty()) {
    throw UsageError("--tee and --redirects write files: add --log-dir DIR");
  }
}

}  // namespace

LaunchOptions parse_options(const std::vector<std::string>& arguments) {
  LaunchOptions options;
  std::size_t at = 0;
  for (; at < arguments.size(); ++at) {
    const std::string& word = arguments[at];
    if (!word.starts_with('-') || word == "-") break;  // the program
    if (word == "--") {
      ++at;
      break;
    }
    const auto equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const Flag& flag = find_flag(name);
    std::string value;
    if (flag.placeholder.empty()) {
      if (equals != std::string::npos) {
        throw UsageError(fmt::format("{} takes no value", flag.name));
      }
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (at + 1 < arguments.size()) {
      value = arguments[++at];
    } else {
      throw UsageError(
          fmt::format("{} needs a value: {}", flag.name, flag.placeholder));
    }
    flag.apply(options, value);
    if (options.help) return options;
  }
  options.program.assign(arguments.begin() + static_cast<std::ptrdiff_t>(at),
                         arguments.end());
  check_together(options);
  return options;
}

std::string help_text() {
  std::string text =
      "dai_launch [FLAGS] PROGRAM [ARGUMENTS]\n"
      "\n"
      "Starts PROGRAM as N ranks on this node, or on several nodes that meet\n"
      "at an endpoint, with torchrun's flags and environment variables.\n"
      "When one rank fails, it says which, where and in which collective, and\n"
      "ends the others within 5 s; --max-restarts starts the group again.\n"
      "\n"
      "Flags (dashes or underscores):\n";
  for (const Flag& flag : flags()) {
    text += fmt::format("  {:<30} {}\n", flag.name + " " + flag.placeholder,
                        flag.help);
  }
  text +=
      "\n"
      "Examples:\n"
      "  dai_launch --standalone --nproc-per-node 2 \\\n"
      "      build/cpu/bin/ch01_first_distributed --smoke\n"
      "  dai_launch --nnodes 1:2 --rdzv-endpoint node1:29400 \\\n"
      "      --max-restarts 3 --nproc-per-node 4 PROGRAM   (on each node)\n"
      "\n"
      "Exit code: 0 all ranks succeeded, 1 failed, 2 wrong usage, 77 cannot\n"
      "run here, 128+N ended by signal N. Of several ranks' codes 1 beats 2\n"
      "beats 77 beats 0; a rank ended by a signal counts as 1.\n";
  return text;
}

std::string find_program(const std::string& name) {
  namespace fs = std::filesystem;
  std::vector<fs::path> places;
  if (name.find('/') != std::string::npos) {
    places.emplace_back(name);
  } else {
    const char* path = std::getenv("PATH");
    std::string_view rest = path != nullptr ? path : "/usr/bin:/bin";
    while (!rest.empty()) {
      const auto colon = std::min(rest.find(':'), rest.size());
      if (colon > 0) places.push_back(fs::path(rest.substr(0, colon)) / name);
      rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
  }
  bool found = false, is_folder = false;
  for (const fs::path& place : places) {
    std::error_code ignored;
    is_folder = is_folder || fs::is_directory(place, ignored);
    if (!fs::is_regular_file(place, ignored)) continue;
    if (access(place.c_str(), X_OK) == 0) return place.string();
    found = true;
  }
  if (found) {
    throw UsageError(fmt::format(
        "program {} is not executable (a script may need its interpreter "
        "before it: python3 {})",
        name, name));
  }
  throw UsageError(fmt::format("program {} {}", name,
                               is_folder ? "is a folder" : "not found"));
}

}  // namespace dai::launch
