// SPDX-License-Identifier: Apache-2.0
#include "tests/ch02_hardware/support/collective_case.h"

#include <fmt/format.h>

#include <cstring>
#include <stdexcept>
#include <vector>

namespace dai::hardware::testing {
namespace {

constexpr std::size_t kGuard = 64;
constexpr std::byte kGuardByte{0xa5};

}  // namespace

void run_and_check(const CollectiveCase& one, const Algorithm& algorithm,
                   Transport& t) {
  const int rank = t.rank(), ranks = t.size();
  const std::size_t element = size_of(one.dtype);
  const std::size_t in_count = one.input_count(rank, ranks);
  const std::size_t out_count = one.output_count(rank, ranks);
  const std::size_t shift = one.seed % 3 == 0 ? element : 0;
  const std::size_t in_bytes = in_count * element;
  const std::size_t out_bytes = out_count * element;
  std::vector<std::byte> in_room(in_bytes + 2 * kGuard + shift, kGuardByte);
  std::vector<std::byte> out_room(out_bytes + 2 * kGuard + shift, kGuardByte);
  std::byte* in = in_room.data() + kGuard + shift;
  std::byte* out = out_room.data() + kGuard + shift;
  Operands o;
  o.count = one.count;
  o.dtype = one.dtype;
  o.op = one.op;
  o.root = one.root;
  if (one.in_place) {  // NCCL's sense of it, operands.h
    const std::size_t mine = rank * one.count * element;
    switch (one.what) {
      case Collective::kAllGather:
        in = out + mine;
        break;
      case Collective::kReduceScatter:
        out = in + mine;
        break;
      case Collective::kGather:
        if (rank == one.root) in = out + mine;
        break;
      case Collective::kScatter:
        if (rank == one.root) out = in + mine;
        break;
      case Collective::kAllToAll:
        break;
      case Collective::kReduce:
      case Collective::kBroadcast:
        if (rank == one.root) out = in;
        break;
      default:
        in = out;
    }
  }
  one.fill_input(rank, ranks, in);
  const std::vector<std::byte> before(in, in + in_bytes);
  o.input = in_count ? in : nullptr;
  o.output = out_count ? out : nullptr;
  algorithm.run(o, t);

  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(fmt::format(
        "{} {} of {} {} {}, root {}, {} ranks, seed {}: rank {}: {}",
        algorithm.name, to_string(one.what), one.count, to_string(one.dtype),
        to_string(one.op), one.root, ranks, one.seed, rank, what));
  };
  std::size_t first = 0;
  if (one.count_wrong(rank, ranks, out, &first) > 0) {
    fail(fmt::format("element {} is wrong", first));
  }
  if (!one.in_place && !before.empty() &&
      std::memcmp(before.data(), in, in_bytes) != 0) {
    fail("its input has changed");
  }
  const auto check_guards = [&](const std::vector<std::byte>& room,
                                std::size_t bytes) {
    for (std::size_t i = 0; i < room.size(); ++i) {
      const bool inside = i >= kGuard + shift && i < kGuard + shift + bytes;
      if (!inside && room[i] != kGuardByte) fail("wrote beyond its buffer");
    }
  };
  check_guards(in_room, in_bytes);
  check_guards(out_room, out_bytes);
}

}  // namespace dai::hardware::testing
