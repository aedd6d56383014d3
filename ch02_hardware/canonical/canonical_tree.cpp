// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/canonical/canonical_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "ch02_hardware/reduction/combine.h"

namespace dai::hardware {

CanonicalTree::CanonicalTree(std::vector<int> owners)
    : owners_(std::move(owners)) {
  if (owners_.empty()) {
    throw std::invalid_argument("a canonical sum of no microbatches");
  }
  if (*std::min_element(owners_.begin(), owners_.end()) < 0) {
    throw std::invalid_argument("a microbatch without an owner");
  }
}

std::vector<int> CanonicalTree::even_owners(std::int64_t microbatches,
                                            int ranks) {
  if (ranks < 1 || microbatches % ranks != 0) {
    throw std::invalid_argument(
        fmt::format("{} microbatches do not divide evenly among {} ranks",
                    microbatches, ranks));
  }
  std::vector<int> owners;
  for (std::int64_t id = 0; id < microbatches; ++id) {
    owners.push_back(static_cast<int>(id / (microbatches / ranks)));
  }
  return owners;
}

Subtree CanonicalTree::root() const {
  Subtree all;
  while ((std::int64_t{1} << all.level) < microbatches()) ++all.level;
  return all;
}

int CanonicalTree::sole_owner(const Subtree& subtree) const {
  const std::int64_t end = std::min(
      microbatches(), subtree.first + (std::int64_t{1} << subtree.level));
  const int owner = owners_[subtree.first];
  for (std::int64_t id = subtree.first; id < end; ++id) {
    if (owners_[id] != owner) return -1;
  }
  return owner;
}

std::vector<Subtree> CanonicalTree::subtrees_of(int rank) const {
  std::vector<Subtree> mine;
  walk<int>(
      [&](const Subtree& subtree, int owner) {
        if (owner == rank) mine.push_back(subtree);
        return 0;
      },
      [](int, int) { return 0; });
  return mine;
}

double CanonicalTree::wire_factor(int rank) const {
  return (1 + static_cast<double>(subtrees_of(rank).size())) / 2;
}

void mark_come(const CanonicalTree& tree, int rank, std::vector<bool>& come,
               std::int64_t id) {
  if (id < 0 || id >= tree.microbatches() || tree.owner(id) != rank ||
      come[id]) {
    throw std::logic_error(fmt::format(
        "microbatch {} came twice or is not one of rank {}'s", id, rank));
  }
  come[id] = true;
}

void throw_missing(std::int64_t id, int rank) {
  throw std::logic_error(fmt::format(
      "microbatches from {} on have not all come to rank {}", id, rank));
}

CanonicalAccumulator::CanonicalAccumulator(const CanonicalTree& tree, int rank,
                                           std::size_t count, DType dtype)
    : count_(count), dtype_(dtype), sums_(tree, rank) {}

CanonicalAccumulator::Row CanonicalAccumulator::take_room() {
  if (free_.empty()) return Row(count_ * size_of(dtype_));
  Row room = std::move(free_.back());
  free_.pop_back();
  return room;
}

void CanonicalAccumulator::add(std::int64_t id, const void* row) {
  Row room = take_room();
  copy_bytes(room.data(), row, room.size());
  sums_.add(id, std::move(room), [&](Row left, Row right) {
    combine(left.data(), left.data(), right.data(), count_, dtype_,
            ReduceOp::kSum);
    free_.push_back(std::move(right));
    return left;
  });
}

std::vector<const void*> CanonicalAccumulator::partials() const {
  std::vector<const void*> rows;
  for (const Row* row : sums_.partials()) rows.push_back(row->data());
  return rows;
}

void CanonicalAccumulator::clear() {
  for (Row& row : sums_.clear()) free_.push_back(std::move(row));
}

namespace {

// A chunk of each subtree's sum stays in the second-level cache until it is
// added.
constexpr std::size_t kMostChunk = 131072, kLeastChunk = 4096;
// For the chunks of all ranks' subtrees together.
constexpr std::size_t kMostRoom = std::size_t{64} << 20;

}  // namespace

void canonical_all_reduce(const CanonicalTree& tree,
                          std::span<const void* const> partials, void* output,
                          std::size_t count, DType dtype, Transport& t) {
  const int n = t.size(), me = t.rank();
  const std::size_t element = size_of(dtype);
  std::vector<std::vector<Subtree>> shipped;
  std::size_t most = 0;
  for (int rank = 0; rank < n; ++rank) {
    shipped.push_back(tree.subtrees_of(rank));
    most = std::max(most, shipped.back().size());
  }
  if (partials.size() != shipped[me].size()) {
    throw std::invalid_argument(
        fmt::format("{} partial sums for the {} subtrees of rank {}",
                    partials.size(), shipped[me].size(), me));
  }
  std::string owners = "canonical";
  for (std::int64_t id = 0; id < tree.microbatches(); ++id) {
    if (tree.owner(id) >= n) {
      throw std::invalid_argument(
          fmt::format("microbatch {} belongs to rank {}, of {} ranks", id,
                      tree.owner(id), n));
    }
    owners += fmt::format(" {}", tree.owner(id));
  }
  Operands all;
  all.count = count;
  all.dtype = dtype;
  t.begin(rootless_call_of(Collective::kAllReduce, all, owners));

  // In turn c, chunk c of rank r's slice comes to r from everybody, is added up
  // there, and goes back to everybody.
  std::vector<Slice> slices;
  std::size_t longest = 0;
  for (int rank = 0; rank < n; ++rank) {
    slices.push_back(slice_of(count, dtype, rank, n));
    longest = std::max(longest, slices.back().bytes);
  }
  const std::size_t fits = kMostRoom / (n * most) / kLeastChunk * kLeastChunk;
  const std::size_t chunk = std::min(std::clamp(fits, kLeastChunk, kMostChunk),
                                     std::max<std::size_t>(longest, 1));
  const auto chunk_of = [&](int rank, std::size_t offset) {
    const Slice& slice = slices[rank];
    const std::size_t begin = std::min(offset, slice.bytes);
    const std::size_t bytes = std::min(chunk, slice.bytes - begin);
    return Slice{slice.offset + begin, bytes, bytes / element};
  };
  // Room for the chunks that come, by rank and subtree.
  std::vector<std::byte> room(n * most * chunk);
  const auto place = [&](int rank, std::size_t index) {
    return room.data() + (rank * most + index) * chunk;
  };
  auto* const out = static_cast<std::byte*>(output);
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (std::size_t offset = 0; offset < longest; offset += chunk) {
    const Slice mine = chunk_of(me, offset);
    for (std::size_t index = 0; index < most; ++index) {
      outgoing.clear();
      incoming.clear();
      for (int i = 1; i < n; ++i) {
        const int to = (me + i) % n, from = (me - i + n) % n;
        const Slice theirs = chunk_of(to, offset);
        if (index < partials.size()) {
          const auto* const sum =
              static_cast<const std::byte*>(partials[index]);
          outgoing.push_back({to, sum + theirs.offset, theirs.bytes});
        }
        if (index < shipped[from].size()) {
          incoming.push_back({from, place(from, index), mine.bytes});
        }
      }
      t.exchange(outgoing, incoming);
    }
    // A sum takes the place of a summand that came from elsewhere: partials are
    // not ours to overwrite, and two of them would be one subtree.
    struct Value {
      const std::byte* data;
      std::byte* place;  // null: this rank's partial
    };
    std::vector<std::size_t> next(n, 0);
    const Value sum = tree.walk<Value>(
        [&](const Subtree&, int owner) {
          const std::size_t index = next[owner]++;
          if (owner == me) {
            return Value{
                static_cast<const std::byte*>(partials[index]) + mine.offset,
                nullptr};
          }
          return Value{place(owner, index), place(owner, index)};
        },
        [&](Value left, Value right) {
          std::byte* const to = left.place ? left.place : right.place;
          combine(to, left.data, right.data, mine.count, dtype, ReduceOp::kSum);
          return Value{to, to};
        });
    copy_bytes(out + mine.offset, sum.data, mine.bytes);
    outgoing.clear();
    incoming.clear();
    for (int i = 1; i < n; ++i) {
      const int to = (me + i) % n, from = (me - i + n) % n;
      const Slice theirs = chunk_of(from, offset);
      outgoing.push_back({to, out + mine.offset, mine.bytes});
      incoming.push_back({from, out + theirs.offset, theirs.bytes});
    }
    t.exchange(outgoing, incoming);
  }
}

}  // namespace dai::hardware
