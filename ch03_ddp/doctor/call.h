// SPDX-License-Identifier: Apache-2.0
#pragma once

// One collective of one rank, as the doctor remembers it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/collective_observer.h"

namespace dai::ddp {

enum class CallState { kInFlight, kDone, kFailed, kRefused };

struct Call {
  CollectiveEvent event;
  std::int64_t step = -1;  // of the training; -1: outside of its steps
  CallState state = CallState::kInFlight;
  std::int64_t begun_ns = 0;          // since the epoch, this host's clock
  double begun_us = 0, ended_us = 0;  // steady_us(); ended 0: not yet

  double seconds(double now_us) const {
    return ((ended_us > 0 ? ended_us : now_us) - begun_us) / 1e6;
  }
  // What makes it the same call in another step: everything but the number.
  std::string identity() const;
  // What must be equal on every rank, or backends hang, abort or return wrong
  // sums: operation, dtype, shape, tensors, bytes, subject, reduce operation,
  // root and step. Shapes and bytes not where ranks may differ in them
  // (all_to_all). The place in the source is not in it: two branches may make
  // the same call.
  std::string signature() const;
  // "all_reduce #18 (float32[4096], sum, at ddp.cpp:40), step 5"
  std::string to_string() const;
};

// The call that ProcessGroup::shutdown() makes: this rank has nothing more to
// do.
bool is_closing(const CollectiveEvent& event);

// Names of the fields of their signatures in which two calls differ, the most
// telling first.
std::vector<std::string> differences(const Call& a, const Call& b);

nlohmann::ordered_json to_json(const Call& call);
// Throws std::runtime_error for what is not one.
Call call_from_json(const nlohmann::ordered_json& json);

}  // namespace dai::ddp
