// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/flight_recorder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dai::ddp {
namespace {

using Json = nlohmann::ordered_json;

Call made_up(const char* op, std::uint64_t sequence, CallState state) {
  Call call;
  call.event.op = op;
  call.event.sequence = sequence;
  call.event.dtype = "float32";
  call.event.shape = {8, 3};
  call.event.where = "train.cpp:31";
  call.state = state;
  call.begun_ns = 1000000;
  call.begun_us = 10;
  call.ended_us = state == CallState::kDone ? 15 : 0;
  return call;
}

TEST(FlightRecord, SaysWhatPyTorchsToolAsksFor) {
  const std::vector<Call> calls{made_up("all_gather", 4, CallState::kDone),
                                made_up("reduce_scatter", 5, CallState::kDone),
                                made_up("barrier", 6, CallState::kInFlight),
                                made_up("all_reduce", 7, CallState::kRefused)};
  const Json record = flight_record(calls, {.rank = 1, .ranks = 4});
  EXPECT_EQ(record["version"], "2.10");
  EXPECT_EQ(record["pg_config"]["world"]["ranks"], "[0, 1, 2, 3]");
  const Json& entries = record["entries"];
  EXPECT_EQ(entries[0]["profiling_name"], "nccl:_all_gather_base");
  EXPECT_EQ(entries[0]["record_id"], 3);
  EXPECT_EQ(entries[0]["output_sizes"], Json::parse("[[32, 3]]"));
  EXPECT_EQ(entries[0]["input_dtypes"], Json::parse(R"(["Float"])"));
  EXPECT_EQ(entries[0]["state"], "completed");
  EXPECT_EQ(entries[0]["time_discovered_completed_ns"], 1005000);
  EXPECT_EQ(entries[0]["frames"][0]["filename"], "train.cpp");
  EXPECT_EQ(entries[0]["frames"][0]["line"], 31);
  EXPECT_EQ(entries[1]["output_sizes"], Json::parse("[[2, 3]]"));
  EXPECT_EQ(entries[2]["profiling_name"], "nccl:all_reduce_barrier");
  EXPECT_EQ(entries[2]["state"], "started");
  EXPECT_EQ(entries[3]["state"], "scheduled");
  EXPECT_EQ(record["pg_status"]["world"]["last_completed_collective"], 5);
}

TEST(FlightRecord, MessagesHaveTheirOwnNumbers) {
  Call send = made_up("send", 1, CallState::kDone);
  send.event.peer = 3;
  const Json record = flight_record({send}, {.rank = 1, .ranks = 4});
  EXPECT_EQ(record["entries"][0]["profiling_name"], "nccl:send 1->3");
  EXPECT_EQ(record["entries"][0]["p2p_seq_id"], 1);
  EXPECT_EQ(record["entries"][0]["is_p2p"], true);
}

TEST(Pickle, IsProtocolTwo) {
  using namespace std::string_literals;
  EXPECT_EQ(to_pickle(Json::parse("[1, true, null]")),
            "\x80\x02](\x8a\x08\x01\0\0\0\0\0\0\0\x88Ne."s);
  EXPECT_EQ(to_pickle(Json::parse(R"({"a": 0.5})")),
            "\x80\x02}(X\x01\0\0\0aG\x3f\xe0\0\0\0\0\0\0u."s);
}

}  // namespace
}  // namespace dai::ddp
