// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/pairwise.h"

#include <numeric>
#include <stdexcept>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {

void pairwise_all_to_all(const Operands& o, Transport& t) {
  t.begin(rootless_call_of(Collective::kAllToAll, o, "pairwise"));
  const int n = t.size();
  const std::size_t bytes = o.bytes();
  for (int step = 1; step < n; ++step) {
    const int to = (t.rank() + step) % n;
    const int from = (t.rank() - step + n) % n;
    t.exchange({to, o.in() + to * bytes, bytes},
               {from, o.out() + from * bytes, bytes});
  }
  copy_bytes(o.out() + t.rank() * bytes, o.in() + t.rank() * bytes, bytes);
}

void pairwise_reduce_scatter(const Operands& o, Transport& t) {
  check_reduction(o.dtype, o.op);
  t.begin(rootless_call_of(Collective::kReduceScatter, o, "pairwise"));
  const int n = t.size();
  const std::size_t bytes = o.bytes();
  std::byte* const parts = scratch(n * bytes);
  for (int step = 1; step < n; ++step) {
    const int to = (t.rank() + step) % n;
    const int from = (t.rank() - step + n) % n;
    t.exchange({to, o.in() + to * bytes, bytes},
               {from, parts + from * bytes, bytes});
  }
  const auto part = [&](int rank) {
    return rank == t.rank() ? o.in() + rank * bytes : parts + rank * bytes;
  };
  // The own input may be where the sum goes: it is read before, or at the time.
  const std::byte* sum = part(0);
  for (int rank = 1; rank < n; ++rank) {
    const bool last = rank == n - 1;
    std::byte* const to = last ? o.out() : parts + t.rank() * bytes;
    combine(to, sum, part(rank), o.count, o.dtype, o.op);
    sum = to;
  }
  if (n == 1) copy_bytes(o.output, o.input, bytes);
  if (o.op == ReduceOp::kAvg) divide(o.output, o.count, o.dtype, n);
}

namespace {

// Announces the pairs and calls move(to, from) for what each step moves.
template <class Move>
void all_to_all_uneven(const UnevenOperands& o, Transport& t,
                       const char* algorithm, Move&& move) {
  const int n = t.size();
  if (o.send_bytes.size() != static_cast<std::size_t>(n) ||
      o.receive_bytes.size() != static_cast<std::size_t>(n)) {
    throw std::invalid_argument("all_to_all: one size for each rank, please");
  }
  if (o.send_bytes[t.rank()] != o.receive_bytes[t.rank()]) {
    throw std::invalid_argument(
        "all_to_all: what this rank sends to itself is not what it expects");
  }
  std::vector<PairBytes> pairs(n);
  std::vector<std::size_t> send_at(n), receive_at(n);
  for (int rank = 0; rank < n; ++rank) {
    pairs[rank] = {o.send_bytes[rank], o.receive_bytes[rank]};
  }
  std::exclusive_scan(o.send_bytes.begin(), o.send_bytes.end(), send_at.begin(),
                      std::size_t{0});
  std::exclusive_scan(o.receive_bytes.begin(), o.receive_bytes.end(),
                      receive_at.begin(), std::size_t{0});
  Operands bytes;
  bytes.dtype = DType::kBool;
  Call call = rootless_call_of(Collective::kAllToAll, bytes, algorithm);
  call.pairs = pairs.data();
  t.begin(call);
  const auto in = [&](int rank) {
    return static_cast<const std::byte*>(o.input) + send_at[rank];
  };
  const auto out = [&](int rank) {
    return static_cast<std::byte*>(o.output) + receive_at[rank];
  };
  move([&](int rank) { return Outgoing{rank, in(rank), o.send_bytes[rank]}; },
       [&](int rank) {
         return Incoming{rank, out(rank), o.receive_bytes[rank]};
       });
  copy_bytes(out(t.rank()), in(t.rank()), o.send_bytes[t.rank()]);
}

}  // namespace

void pairwise_all_to_all_uneven(const UnevenOperands& o, Transport& t) {
  all_to_all_uneven(o, t, "pairwise_uneven", [&](auto outgoing, auto incoming) {
    const int n = t.size();
    for (int step = 1; step < n; ++step) {
      t.exchange(outgoing((t.rank() + step) % n),
                 incoming((t.rank() - step + n) % n));
    }
  });
}

// One rank after the other sends to everybody.
void naive_all_to_all_uneven(const UnevenOperands& o, Transport& t) {
  all_to_all_uneven(o, t, "naive_uneven", [&](auto outgoing, auto incoming) {
    for (int root = 0; root < t.size(); ++root) {
      for (int peer = 0; peer < t.size(); ++peer) {
        if (peer == root) continue;
        if (t.rank() == root) {
          const Outgoing out = outgoing(peer);
          t.send(peer, out.data, out.bytes);
        } else if (t.rank() == peer) {
          const Incoming in = incoming(root);
          t.receive(root, in.data, in.bytes);
        }
      }
    }
  });
}

}  // namespace dai::hardware
