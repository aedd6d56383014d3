// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line of dai_launch: torchrun's flags, in torchrun's grammar.
// Dashes and underscores are equal (--nproc_per_node), a value follows as
// "--flag VALUE" or "--flag=VALUE", and the first word that is no flag is the
// PROGRAM: all that stands behind it belongs to the program, untouched.
//
//   auto options = dai::launch::parse_options({"--nproc-per-node=2", "app"});
//   options.program        // {"app"}
//
// Throws dai::UsageError: one line saying what was given and what is accepted.

#include <string>
#include <vector>

namespace dai::launch {

// Which of a rank's streams an option means; torchrun's numbers.
enum StreamMask : int { kNoStream = 0, kStdout = 1, kStderr = 2, kBoth = 3 };

struct LaunchOptions {
  int nproc_per_node = 1;
  int min_nodes = 1;
  int max_nodes = 1;
  int node_rank = -1;       // -1: given by the order of joining
  std::string master_addr;  // empty: chosen by the rendezvous
  int master_port = 0;      // 0: any free port
  std::string rdzv_host;    // empty: one node, or the static form
  int rdzv_port = 29400;    // torchrun's default
  std::string rdzv_id = "none";
  std::string role = "default";
  std::string local_addr;
  int max_restarts = 0;
  bool standalone = false;
  int tee = kNoStream;        // to the console, prefixed, and to files
  int redirects = kNoStream;  // to files alone
  std::string log_dir;
  double join_timeout_s = 60;
  double last_call_s = 5;   // wait for more nodes once MIN are there
  double heartbeat_s = 15;  // a node silent for so long is lost
  bool help = false;
  std::vector<std::string> program;  // with its arguments
};

LaunchOptions parse_options(const std::vector<std::string>& arguments);

std::string help_text();

// The file that execvp would start for `name`. Throws UsageError when there is
// none or it may not be executed.
std::string find_program(const std::string& name);

}  // namespace dai::launch
