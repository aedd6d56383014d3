// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which of this machine's addresses the other ranks can reach.

#include <chrono>
#include <string>
#include <vector>

#include "common/launch_context.h"

namespace dai {

// Waits until `host` resolves: in a cluster the master's DNS entry can come up
// after its peers. Throws UsageError when it does not within `timeout`.
void wait_for_name(const std::string& host, std::chrono::milliseconds timeout);

// The same, then until somebody listens at `port`; false when nobody does.
bool wait_for_port(const std::string& host, int port,
                   std::chrono::milliseconds timeout);

// The address for this rank's collectives: loopback when all ranks share one
// node, else that of the interface which routes to the master. `hosts` are the
// ranks' node names. Throws UsageError when nothing routes there.
std::string choose_address(const LaunchContext& launch,
                           const std::vector<std::string>& hosts);

// The numeric address of one of this node's interfaces ("eth0"), IPv4 before
// IPv6. Throws UsageError when there is no such interface, or it has none.
std::string address_of_interface(const std::string& interface);

}  // namespace dai
