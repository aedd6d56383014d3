// SPDX-License-Identifier: Apache-2.0
#pragma once

// How ranks find each other and agree to start: a key-value store that all of
// them reach, and two roll calls in it. Used by ProcessGroup::connect().

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "common/launch_context.h"

namespace c10d {
class Store;
}  // namespace c10d

namespace dai {

using StorePtr = c10::intrusive_ptr<::c10d::Store>;

// Rank 0 serves a TCPStore (on launch.master_listen_fd, on master_port, or on
// a free port that it publishes in launch.meeting_file), the others connect;
// under torchrun's agent all connect to the agent; one rank alone needs none.
// Throws UsageError for a master that cannot be resolved, std::runtime_error
// when the port is taken or nobody answers within `timeout`.
StorePtr open_store(const LaunchContext& launch,
                    std::chrono::milliseconds timeout);

// Every rank says `mine` under `topic` and hears what all said, by rank.
// Throws std::runtime_error "ranks 2, 3 did not arrive within 60 s"; `verb` is
// what the missing ones failed to do. `check` sees each answer as soon as it
// is there, before the others have come.
std::vector<std::string> roll_call(
    ::c10d::Store& store, const LaunchContext& launch, const std::string& topic,
    const std::string& verb, const std::string& mine,
    std::chrono::milliseconds timeout,
    const std::function<void(int rank, const std::string&)>& check = {});

// First roll call: all were launched with the same world size and the same
// fingerprint. Returns every rank's host. Throws UsageError: "rank 1 was
// launched with WORLD_SIZE=3, rank 0 with WORLD_SIZE=2".
std::vector<std::string> agree_on_launch(::c10d::Store& store,
                                         const LaunchContext& launch,
                                         const std::string& fingerprint,
                                         std::chrono::milliseconds timeout);

// Second roll call: runs `prepare` here, which returns what must be equal on
// all ranks (the backend's name). If it throws on any rank, every rank throws
// the same kind: its own error where it happened, "rank 2: needs ..."
// elsewhere.
void agree_on_start(::c10d::Store& store, const LaunchContext& launch,
                    const std::function<std::string()>& prepare,
                    std::chrono::milliseconds timeout);

// The last word on a store: rank 0, who serves it, stays until the others have
// left too. Bounded, for a dead rank says no goodbye. Throws nothing.
void say_goodbye(::c10d::Store& store, const LaunchContext& launch);

}  // namespace dai
