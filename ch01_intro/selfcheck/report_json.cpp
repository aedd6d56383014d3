// SPDX-License-Identifier: Apache-2.0
// How reports travel from the ranks to rank 0 and on into --json.
#include "ch01_intro/selfcheck/judge.h"

namespace dai::intro {
namespace wire {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Finding, check, host, ranks, warning,
                                   measured, expected, advice)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankFacts, machine, local_rank,
                                   local_world_size, node_rank, world_size,
                                   own_name_addresses, address, port, token,
                                   device, device_error, device_index, threads,
                                   own)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PeerPing, rank, error, rtt_us, mb_per_s,
                                   clock_offset_us, clock_error_us)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GroupReport, error, collective_errors,
                                   latency_us, mb_per_s, bits, kernels)

}  // namespace wire

void to_json(nlohmann::json& out, const Finding& finding) {
  wire::to_json(out, finding);
}
void from_json(const nlohmann::json& in, Finding& finding) {
  wire::from_json(in, finding);
}
void to_json(nlohmann::json& out, const RankFacts& facts) {
  wire::to_json(out, facts);
}
void from_json(const nlohmann::json& in, RankFacts& facts) {
  wire::from_json(in, facts);
}
void to_json(nlohmann::json& out, const PeerPing& ping) {
  wire::to_json(out, ping);
}
void from_json(const nlohmann::json& in, PeerPing& ping) {
  wire::from_json(in, ping);
}
void to_json(nlohmann::json& out, const GroupReport& report) {
  wire::to_json(out, report);
}
void from_json(const nlohmann::json& in, GroupReport& report) {
  wire::from_json(in, report);
}

}  // namespace dai::intro
