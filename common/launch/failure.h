// SPDX-License-Identifier: Apache-2.0
#pragma once

// How ranks end, and how the launcher words it.
//
// A Failure is the first rank of the job that ended badly. It travels as JSON
// from its node to the rendezvous and from there to all nodes, so that every
// agent prints the same line:
//
//   rank 2 (host node1, pid 4711) was killed by signal 9 (SIGKILL) after 3.2 s
//   in all_reduce #17 (float32, 16384 elements) for 3.1 s

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace dai::launch {

struct Failure {
  int rank = 0;
  std::string host;
  int pid = 0;
  int exit_code = 0;  // meaningless when signal != 0
  int signal = 0;
  double seconds = 0;             // from its start to its end
  std::string collective;         // "in barrier #3 for 1.0 s", or empty
  std::vector<int> stopped;       // ranks of its node that SIGSTOP holds
  std::vector<std::string> tail;  // its last lines on stderr

  // 0, 1, 2 or 77: see contract_code().
  int code() const;
  // Exit 2 and 77 are decisions of the program, which has said why: no tail,
  // no table, no restart.
  bool is_refusal() const;
  // The lines above, in one.
  std::string describe() const;
};

// Any exit code as one of the contract's four: unknown ones count as failed.
int contract_code(int exit_code);

// Of several ranks' codes 1 beats 2 beats 77 beats 0.
int worse_code(int a, int b);

std::string signal_name(int signal);  // "SIGKILL"

void to_json(nlohmann::json& json, const Failure& failure);
void from_json(const nlohmann::json& json, Failure& failure);

}  // namespace dai::launch
