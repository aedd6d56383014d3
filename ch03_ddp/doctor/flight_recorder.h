// SPDX-License-Identifier: Apache-2.0
#pragma once

// The calls of a rank in the form of PyTorch's flight recorder, version 2.10,
// so that PyTorch's own tool reads them:
//
//   write_flight_recorder("dumps", calls, {.rank = 2, .ranks = 4});
//   python -m torch.distributed.flight_recorder.fr_trace dumps
//
// Two files a rank: calls_<rank>, a pickle, which fr_trace reads, and
// record_<rank>.json, the same for people. fr_trace knows NCCL's names only,
// so an all_reduce over Gloo is "nccl:all_reduce" there, as PyTorch writes its
// own Gloo records.
// What PyTorch's recorder leaves open on Gloo is filled in: a call that went
// well is "completed", one that was not issued "scheduled", any other
// "started".

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "ch03_ddp/doctor/call.h"

namespace dai::ddp {

struct RecorderGroup {
  int rank = 0, ranks = 1;
  std::string name = "world";
};

// The whole record; its fields in PyTorch's order.
nlohmann::ordered_json flight_record(const std::vector<Call>& calls,
                                     const RecorderGroup& group);

// Python's pickle, protocol 2, of what JSON can say. No numbers beyond int64.
std::string to_pickle(const nlohmann::ordered_json& value);

// Makes the folder. Throws std::runtime_error where the files cannot be
// written. A complete file or none.
void write_flight_recorder(const std::filesystem::path& folder,
                           const std::vector<Call>& calls,
                           const RecorderGroup& group);

}  // namespace dai::ddp
