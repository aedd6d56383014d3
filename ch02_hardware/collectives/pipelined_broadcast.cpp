// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/pipelined_broadcast.h"

#include <algorithm>

namespace dai::hardware {
namespace {

void chain_broadcast(const Operands& o, Transport& t, std::size_t chunk) {
  const int n = t.size();
  const int number = (t.rank() - o.root + n) % n;  // the root is number 0
  const int previous = (t.rank() - 1 + n) % n;
  const int next = (t.rank() + 1) % n;
  const std::byte* const data = number == 0 ? o.in() : o.out();
  const std::size_t bytes = o.bytes();
  const std::size_t chunks = bytes == 0 ? 0 : (bytes + chunk - 1) / chunk;
  const auto size = [&](std::size_t i) {
    return std::min(chunk, bytes - i * chunk);
  };
  const bool receives = number > 0, sends = number < n - 1;
  // In turn i, chunk i arrives and the one before leaves.
  for (std::size_t i = 0; i <= chunks; ++i) {
    const bool in = receives && i < chunks;
    const bool out = sends && i > 0;
    const Outgoing leaving{next, out ? data + (i - 1) * chunk : nullptr,
                           out ? size(i - 1) : 0};
    const Incoming coming{previous, in ? o.out() + i * chunk : nullptr,
                          in ? size(i) : 0};
    t.exchange({&leaving, out ? 1u : 0u}, {&coming, in ? 1u : 0u});
  }
  if (number == 0) copy_bytes(o.output, o.input, bytes);
}

}  // namespace

void pipelined_broadcast(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kBroadcast, o, "pipelined"));
  chain_broadcast(o, t, kBroadcastChunkBytes);
}

void naive_chain_broadcast(const Operands& o, Transport& t) {
  t.begin(call_of(Collective::kBroadcast, o, "chain"));
  chain_broadcast(o, t, std::max<std::size_t>(1, o.bytes()));
}

}  // namespace dai::hardware
