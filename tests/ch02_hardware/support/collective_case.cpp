// SPDX-License-Identifier: Apache-2.0
#include "tests/ch02_hardware/support/collective_case.h"

#include <fmt/format.h>

#include <cstring>
#include <stdexcept>
#include <vector>

#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware::testing {
namespace {

constexpr std::size_t kGuard = 64;
constexpr std::byte kGuardByte{0xa5};

void put(std::byte* to, DType dtype, double value) {
  const auto store = [&](auto typed) { std::memcpy(to, &typed, sizeof typed); };
  switch (dtype) {
    case DType::kFloat32:
      return store(static_cast<float>(value));
    case DType::kFloat64:
      return store(value);
    case DType::kBFloat16:
      return store(to_bf16(static_cast<float>(value)));
    case DType::kFloat16:
      return store(to_fp16(static_cast<float>(value)));
    case DType::kInt32:
      return store(static_cast<std::int32_t>(value));
    case DType::kInt64:
      return store(static_cast<std::int64_t>(value));
    case DType::kBool:
      return store(static_cast<std::uint8_t>(value != 0));
  }
}

bool reduces(Collective what) {
  return what == Collective::kAllReduce || what == Collective::kReduce ||
         what == Collective::kReduceScatter;
}

double combined(double a, double b, ReduceOp op, DType dtype) {
  if (dtype == DType::kBool) {
    const bool any = op == ReduceOp::kSum || op == ReduceOp::kMax;
    return any ? a != 0 || b != 0 : a != 0 && b != 0;
  }
  switch (op) {
    case ReduceOp::kMin:
      return a < b ? a : b;
    case ReduceOp::kMax:
      return a > b ? a : b;
    case ReduceOp::kProduct:
      return a * b;
    default:
      return a + b;
  }
}

}  // namespace

std::size_t CollectiveCase::input_count(int rank, int ranks) const {
  switch (what) {
    case Collective::kBroadcast:
      return rank == root ? count : 0;
    case Collective::kScatter:
      return rank == root ? ranks * count : 0;
    case Collective::kReduceScatter:
    case Collective::kAllToAll:
      return ranks * count;
    default:
      return count;
  }
}

std::size_t CollectiveCase::output_count(int rank, int ranks) const {
  switch (what) {
    case Collective::kReduce:
      return rank == root ? count : 0;
    case Collective::kGather:
      return rank == root ? ranks * count : 0;
    case Collective::kAllGather:
    case Collective::kAllToAll:
      return ranks * count;
    default:
      return count;
  }
}

double CollectiveCase::input(int rank, std::size_t element) const {
  std::uint64_t x = seed + 0x9e3779b97f4a7c15u * (rank + 1) +
                    0xd1b54a32d192ed03u * (element + 1);
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
  const int random = static_cast<int>((x >> 40) % 9);  // 0 .. 8
  if (dtype == DType::kBool) return random % 2;
  if (reduces(what) && op == ReduceOp::kProduct) {
    constexpr double kFactors[] = {1, 1, -1, 2, 1, -1, 1, -2, 1};
    return kFactors[random];
  }
  return random - 4;
}

double CollectiveCase::expected(int rank, int ranks, std::size_t i) const {
  switch (what) {
    case Collective::kBroadcast:
      return input(root, i);
    case Collective::kScatter:
      return input(root, rank * count + i);
    case Collective::kAllGather:
    case Collective::kGather:
      return input(static_cast<int>(i / count), i % count);
    case Collective::kAllToAll:
      return input(static_cast<int>(i / count), rank * count + i % count);
    default:
      break;
  }
  const std::size_t at =
      what == Collective::kReduceScatter ? rank * count + i : i;
  double sum = input(0, at);
  for (int r = 1; r < ranks; ++r) {
    sum = combined(sum, input(r, at), op, dtype);
  }
  if (op != ReduceOp::kAvg) return sum;
  const double mean = sum / ranks;
  const bool whole = dtype == DType::kInt32 || dtype == DType::kInt64;
  if (whole) return static_cast<double>(static_cast<std::int64_t>(mean));
  // Rounded as the element type rounds a quotient of exact numbers.
  if (dtype == DType::kFloat64) return mean;
  return static_cast<float>(static_cast<float>(sum) /
                            static_cast<float>(ranks));
}

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
  for (std::size_t i = 0; i < in_count; ++i) {
    put(in + i * element, one.dtype, one.input(rank, i));
  }
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
  for (std::size_t i = 0; i < out_count; ++i) {
    std::byte want[8];
    put(want, one.dtype, one.expected(rank, ranks, i));
    if (std::memcmp(want, out + i * element, element) != 0) {
      fail(fmt::format("element {} is wrong", i));
    }
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
