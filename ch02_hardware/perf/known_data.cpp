// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/known_data.h"

#include <cstring>

#include "ch02_hardware/reduction/float16.h"

namespace dai::hardware {
namespace {

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
    // Narrow integers wrap, as their sums do.
    case DType::kInt8:
    case DType::kUInt8:
      return store(static_cast<std::uint8_t>(static_cast<int>(value)));
    case DType::kInt16:
      return store(static_cast<std::int16_t>(static_cast<int>(value)));
  }
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

// Integers wrap after each addition or product.
double wrapped(double value, DType dtype) {
  const auto whole = static_cast<std::int64_t>(value);
  switch (dtype) {
    case DType::kInt8:
      return static_cast<std::int8_t>(whole);
    case DType::kUInt8:
      return static_cast<std::uint8_t>(whole);
    case DType::kInt16:
      return static_cast<std::int16_t>(whole);
    case DType::kInt32:
      return static_cast<std::int32_t>(whole);
    default:
      return value;
  }
}

}  // namespace

std::size_t KnownData::input_count(int rank, int ranks) const {
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

std::size_t KnownData::output_count(int rank, int ranks) const {
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

double KnownData::input(int rank, std::size_t element) const {
  std::uint64_t x = seed + 0x9e3779b97f4a7c15u * (rank + 1) +
                    0xd1b54a32d192ed03u * (element + 1);
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
  const int random = static_cast<int>((x >> 40) % 9);  // 0 .. 8
  if (dtype == DType::kBool) return random % 2;
  if (reduces(what) && op == ReduceOp::kProduct) {
    constexpr double kFactors[] = {1, 1, -1, 2, 1, -1, 1, -2, 1};
    const double factor = kFactors[random];
    return dtype == DType::kUInt8 && factor < 0 ? 1 : factor;
  }
  return dtype == DType::kUInt8 ? random : random - 4;
}

double KnownData::expected(int rank, int ranks, std::size_t i) const {
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
    sum = wrapped(combined(sum, input(r, at), op, dtype), dtype);
  }
  if (op != ReduceOp::kAvg) return sum;
  const double mean = sum / ranks;
  const bool whole = dtype != DType::kFloat32 && dtype != DType::kFloat64 &&
                     dtype != DType::kBFloat16 && dtype != DType::kFloat16;
  if (whole) return static_cast<double>(static_cast<std::int64_t>(mean));
  // Rounded as the element type rounds a quotient of exact numbers.
  if (dtype == DType::kFloat64) return mean;
  return static_cast<float>(static_cast<float>(sum) /
                            static_cast<float>(ranks));
}

void KnownData::fill_input(int rank, int ranks, void* to) const {
  auto* const bytes = static_cast<std::byte*>(to);
  const std::size_t n = input_count(rank, ranks);
  for (std::size_t i = 0; i < n; ++i) {
    put(bytes + i * size_of(dtype), dtype, input(rank, i));
  }
}

void KnownData::spoil_output(int rank, int ranks, void* to) const {
  const std::size_t bytes = output_count(rank, ranks) * size_of(dtype);
  if (bytes > 0) std::memset(to, 0x7b, bytes);
}

std::size_t KnownData::count_wrong(int rank, int ranks, const void* output,
                                   std::size_t* first) const {
  const auto* const bytes = static_cast<const std::byte*>(output);
  const std::size_t element = size_of(dtype);
  const std::size_t n = output_count(rank, ranks);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::byte want[8];
    put(want, dtype, expected(rank, ranks, i));
    if (std::memcmp(want, bytes + i * element, element) == 0) continue;
    if (wrong++ == 0 && first) *first = i;
  }
  return wrong;
}

}  // namespace dai::hardware
