// SPDX-License-Identifier: Apache-2.0
#pragma once

// From what every rank measured to verdicts that name the host: pure
// functions, so that each fault can be shown to them without having it.
//
//   std::vector<RankReport> ranks = ...;            // rank r at index r
//   for (const Finding& f : judge(ranks, limits)) fmt::print("{}\n", f.line());
//
// "FAILED clock: host node-b, rank 1: 3600.0 s ahead of the median;
//  expected: within 0.1 s; do: start a time service on node-b"
//
// Where ranks must be equal, the value that most of them have is the expected
// one (of equally many, rank 0's); the others are named. A warning fails
// nothing unless `strict` is set.

#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/selfcheck/host_facts.h"
#include "ch01_intro/selfcheck/reach.h"

namespace dai::intro {

// The stages, in their order: the columns of the matrix.
inline const std::vector<std::string> kSelfchecks = {
    "resolve", "bind",  "arrive", "ping",        "clock",      "versions",
    "device",  "links", "numa",   "collectives", "determinism"};

// What mends every rank of another build.
inline constexpr const char* kCopyOneBuild =
    "copy one build of this program to every host";

struct Finding {
  std::string check;
  std::string host;
  std::vector<int> ranks;  // of that host
  bool warning = false;
  std::string measured;
  std::string expected;
  std::string advice;
  std::string line() const;
};

// Facts that belong to the rank and not to its machine, and what it found by
// itself before it met the others (resolve, bind).
struct RankFacts {
  HostFacts machine;
  int local_rank = 0;
  int local_world_size = 1;
  int node_rank = 0;
  int world_size = 1;
  std::vector<std::string> own_name_addresses;  // what its host name means
  std::string address;                          // where it can be reached
  int port = 0;
  std::uint64_t token = 0;   // of its EchoServer
  std::string device;        // "cpu", "cuda:1"; empty: none could be chosen
  std::string device_error;  // why not
  int device_index = -1;     // of cuda
  int threads = 1;           // intra-op threads of the tensor library
  std::vector<Finding> own;
};

struct GroupReport {
  std::string error;  // what ended the group on this rank; empty: nothing
  std::vector<std::pair<std::string, double>> collective_errors;
  double latency_us = -1;  // all_reduce of 4 bytes, median
  double mb_per_s = -1;    // all_reduce, bus bandwidth, 10^6 bytes
  std::vector<std::pair<std::string, std::string>> bits;  // "exp" -> hash
  std::string kernels;  // the instruction set that the library chose
};

struct RankReport {
  bool arrived = false;  // it said who and where it is; the rest of `facts`
                         // comes with its report, after the pings
  std::string foreign;   // the format that it speaks instead of ours; or empty
  std::string silent;    // the stage after which nothing was heard; or empty
  std::string state;     // of its process, where rank 0 can see it
  RankFacts facts;
  bool reported = false;
  std::vector<PeerPing> pings;
  bool grouped = false;
  GroupReport group;
};

struct SelfcheckLimits {
  double max_clock_skew_ms = 100;
  std::int64_t min_open_files = 1024;  // what every distribution grants
  std::int64_t min_shm_mib = 16;       // a rank of the node
  std::int64_t min_memory_mib = 256;   // a rank of the node
  bool strict = false;
};

// Failures first, then warnings, each in the order of kSelfchecks. Ranks of one
// host with the same words share a finding.
std::vector<Finding> judge(const std::vector<RankReport>& ranks,
                           const SelfcheckLimits& limits);

// "node-b", also for a rank that never came but whose neighbours on the node
// did; "unknown (node 1)" where nobody of that node came.
std::string host_of(const std::vector<RankReport>& ranks, int rank);

// One row a rank, one column a check: ok, warning, FAILED, or - (not run).
std::string selfcheck_matrix(const std::vector<RankReport>& ranks,
                             const std::vector<Finding>& findings);
// The same cell by itself.
std::string selfcheck_cell(const std::vector<RankReport>& ranks,
                           const std::vector<Finding>& findings, int rank,
                           const std::string& check);

void to_json(nlohmann::json& out, const Finding& finding);
void from_json(const nlohmann::json& in, Finding& finding);
void to_json(nlohmann::json& out, const RankFacts& facts);
void from_json(const nlohmann::json& in, RankFacts& facts);
void to_json(nlohmann::json& out, const PeerPing& ping);
void from_json(const nlohmann::json& in, PeerPing& ping);
void to_json(nlohmann::json& out, const GroupReport& report);
void from_json(const nlohmann::json& in, GroupReport& report);

}  // namespace dai::intro
