// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/network/pair_perf.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "ch02_hardware/collectives/binomial_tree.h"

namespace dai::hardware {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLarge = 8192;
constexpr std::size_t kNumberBytes = 4;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The place in a message decides its byte, after those of its number.
std::byte pattern(std::size_t i) {
  return static_cast<std::byte>((i * 131 + 7) & 0xff);
}

}  // namespace

PairPerf::PairPerf(Transport& transport, const PairOptions& options)
    : t_(transport), options_(options) {}

void PairPerf::announce(std::size_t bytes) {
  Call call;
  call.what = Collective::kSendReceive;
  call.count = bytes;
  call.dtype = DType::kUInt8;
  t_.begin(call);
}

int PairPerf::windows_for(std::size_t bytes) const {
  return std::max(
      1, static_cast<int>((bytes < kLarge ? 100 : 20) * options_.effort));
}

void PairPerf::make_room(std::size_t bytes) {
  out_.resize(std::max<std::size_t>(1, bytes));
  in_.assign(std::max<std::size_t>(1, bytes), std::byte{0});
  for (std::size_t i = 0; i < bytes; ++i) out_[i] = pattern(i);
  sent_ = received_ = 0;
}

void PairPerf::number(std::size_t bytes) {
  std::memcpy(out_.data(), &sent_, std::min(bytes, kNumberBytes));
  ++sent_;
}

void PairPerf::check_number(std::size_t bytes) {
  const std::size_t n = std::min(bytes, kNumberBytes);
  if (std::memcmp(in_.data(), &received_, n) != 0) wrong_ += n;
  ++received_;
}

void PairPerf::check_pattern(std::size_t bytes) {
  for (std::size_t i = kNumberBytes; i < bytes; ++i) {
    wrong_ += in_[i] != pattern(i);
  }
}

double PairPerf::tell_all(int from, double value) {
  Operands o;
  o.input = o.output = &value;
  o.count = 1;
  o.dtype = DType::kFloat64;
  o.root = from;
  binomial_tree_broadcast(o, t_);
  return value;
}

bool PairPerf::another_round(int a, int b, bool wants) {
  std::byte word{wants};
  if (t_.rank() == a) t_.send(b, &word, 1);
  if (t_.rank() == b) t_.receive(a, &word, 1);
  return word != std::byte{0};
}

double PairPerf::latency_s(int a, int b, std::size_t bytes) {
  announce(bytes);
  const double wanted = (bytes < kLarge ? 10000 : 1000) * options_.effort;
  const int rounds = std::max(1, static_cast<int>(wanted));
  const int skip = std::max(1, rounds / 10);
  double one_way = 0;
  if (t_.rank() == a || t_.rank() == b) {
    make_room(bytes);
    const bool first = t_.rank() == a;
    const int peer = first ? b : a;
    int done = 0;
    auto start = Clock::now();
    for (int batch = 0;; ++batch) {
      // The first batch warms up; then batches of a hundred, so that a slow
      // link ends by the clock.
      const int n = batch == 0 ? skip : std::min(100, rounds - done);
      if (batch == 1) start = Clock::now();
      for (int i = 0; i < n; ++i) {
        number(bytes);
        if (first) t_.send(peer, out_.data(), bytes);
        t_.receive(peer, in_.data(), bytes);
        check_number(bytes);
        if (!first) t_.send(peer, out_.data(), bytes);
      }
      if (batch == 0) continue;
      done += n;
      one_way = seconds_since(start) / done / 2;
      const bool late = seconds_since(start) > options_.most_seconds;
      const auto pause = Clock::now();
      if (!another_round(a, b, done < rounds && !late)) break;
      start += Clock::now() - pause;  // the question is not the link's time
    }
    check_pattern(bytes);
  }
  return tell_all(a, one_way);
}

double PairPerf::bandwidth(int a, int b, std::size_t bytes) {
  announce(bytes);
  const int windows = windows_for(bytes);
  const int skip = std::max(1, windows / 10);
  double speed = 0;
  if (t_.rank() == a || t_.rank() == b) {
    make_room(bytes);
    const bool sends = t_.rank() == a;
    auto start = Clock::now();
    for (int round = 0;; ++round) {
      if (round == skip) start = Clock::now();
      std::byte answer{1};
      if (sends) {
        for (int i = 0; i < options_.window; ++i) {
          number(bytes);
          t_.send(b, out_.data(), bytes);
        }
        t_.receive(b, &answer, 1);
      } else {
        for (int i = 0; i < options_.window; ++i) {
          t_.receive(a, in_.data(), bytes);
          check_number(bytes);
        }
        t_.send(a, &answer, 1);
      }
      const int counted = round + 1 - skip;
      const double spent = seconds_since(start);
      if (counted > 0) {
        speed = static_cast<double>(bytes) * options_.window * counted / spent;
      }
      // Where the windows that do not count take too long, they have to do.
      const bool late = spent > options_.most_seconds;
      if (late && counted <= 0) {
        speed =
            static_cast<double>(bytes) * options_.window * (round + 1) / spent;
      }
      const auto pause = Clock::now();
      if (!another_round(a, b, counted < windows && !late)) break;
      start += Clock::now() - pause;  // the question is not the link's time
    }
    if (!sends) check_pattern(bytes);
  }
  return tell_all(a, speed);
}

double PairPerf::bidirectional_bandwidth(int a, int b, std::size_t bytes) {
  announce(bytes);
  const int windows = windows_for(bytes);
  double speed = 0;
  if (t_.rank() == a || t_.rank() == b) {
    make_room(bytes);
    const int peer = t_.rank() == a ? b : a;
    auto start = Clock::now();
    for (int round = 0;; ++round) {
      if (round == 1) start = Clock::now();
      for (int i = 0; i < options_.window; ++i) {
        number(bytes);
        t_.exchange({peer, out_.data(), bytes}, {peer, in_.data(), bytes});
        check_number(bytes);
      }
      const double spent = seconds_since(start);
      if (round > 0) {
        speed =
            2.0 * static_cast<double>(bytes) * options_.window * round / spent;
      }
      const bool late = spent > options_.most_seconds;
      if (late && round == 0) {
        speed = 2.0 * static_cast<double>(bytes) * options_.window / spent;
      }
      const auto pause = Clock::now();
      if (!another_round(a, b, round < windows && !late)) break;
      start += Clock::now() - pause;
    }
    check_pattern(bytes);
  }
  return tell_all(a, speed);
}

}  // namespace dai::hardware
