// SPDX-License-Identifier: Apache-2.0

// What ranks do when one of them dies, stalls, leaves or calls something else,
// at any point of any algorithm: the others end in time and name it.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "ch02_hardware/collectives/algorithms.h"
#include "ch02_hardware/collectives/pairwise.h"
#include "ch02_hardware/collectives/ring.h"
#include "tests/ch02_hardware/support/rank_runner.h"

namespace dai::hardware::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::size_t kCount = 30000;
constexpr int kRanks = 4;

// Passes everything on, and calls `strike` before the turn-th time that the
// algorithm would wait for somebody.
class StrickenTransport final : public Transport, private SharedWindow {
 public:
  StrickenTransport(Transport& inner, int turn, void (*strike)())
      : inner_(inner), turn_(turn), strike_(strike) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string medium() const override { return inner_.medium(); }
  int node_of(int rank) const override { return inner_.node_of(rank); }
  void begin(const Call& call) override {
    next();
    inner_.begin(call);
  }
  void wait_for_all() override {
    next();
    inner_.wait_for_all();
  }
  void exchange(std::span<const Outgoing> out,
                std::span<const Incoming> in) override {
    next();
    inner_.exchange(out, in);
  }
  SharedWindow* window() override { return inner_.window() ? this : nullptr; }

 private:
  void next() {
    if (turn_-- == 0) strike_();
  }
  std::byte* next_slot() override { return inner_.window()->next_slot(); }
  const std::byte* slot(int rank) const override {
    return inner_.window()->slot(rank);
  }
  bool reaches_memory() const override {
    return inner_.window()->reaches_memory();
  }
  void read_input(int rank, std::size_t at, void* to, std::size_t n) override {
    next();
    inner_.window()->read_input(rank, at, to, n);
  }
  void write_output(int rank, std::size_t at, const void* from,
                    std::size_t n) override {
    next();
    inner_.window()->write_output(rank, at, from, n);
  }
  void meet() override {
    next();
    inner_.window()->meet();
  }

  Transport& inner_;
  int turn_;
  void (*strike_)();
};

struct Buffers {
  explicit Buffers(int ranks)
      : in(ranks * kCount, 1.0f), out(ranks * kCount, 0.0f) {}
  std::vector<float> in, out;
  Operands operands(std::size_t count = kCount) {
    Operands o;
    o.input = in.data();
    o.output = out.data();
    o.count = count;
    return o;
  }
};

// The algorithm runs until the victim is struck; some need several runs for
// the victim's turn to come, or never wait for it: a barrier ends the matter.
void run_until_struck(const Algorithm& algorithm, Transport& t) {
  Buffers buffers(t.size());
  for (int i = 0; i < 3; ++i) {
    const std::size_t count = algorithm.needs == Needs::kSlots ? 100 : kCount;
    algorithm.run(buffers.operands(count), t);
  }
  t.begin({});
  t.wait_for_all();
}

struct OnMedium : ::testing::TestWithParam<Medium> {};

// Survivors, and what each of them must have said about rank `victim`.
void expect_named(const std::vector<std::string>& said, int victim,
                  const std::string& what, const std::string& context) {
  for (int rank = 0; rank < static_cast<int>(said.size()); ++rank) {
    if (rank == victim) continue;
    EXPECT_THAT(said[rank], HasSubstr(fmt::format("rank {} {}", victim, what)))
        << context << ", on rank " << rank;
  }
}

TEST_P(OnMedium, ARankKilledInsideAnyAlgorithmIsNamedByAll) {
  for (const Algorithm& algorithm : algorithms()) {
    for (const int turn : {0, 1, 2, 4}) {
      const int victim = (turn + 1) % kRanks;
      const auto start = std::chrono::steady_clock::now();
      const auto said =
          on_ranks({.medium = GetParam(), .ranks = kRanks}, [&](Transport& t) {
            if (!algorithm.runs_on(400, t)) {
              throw std::runtime_error(fmt::format("rank {} died", victim));
            }
            StrickenTransport stricken(t, t.rank() == victim ? turn : -1,
                                       [] { raise(SIGKILL); });
            run_until_struck(algorithm, stricken);
          });
      expect_named(said, victim, "died",
                   fmt::format("{} {}, turn {}", algorithm.name,
                               to_string(algorithm.collective), turn));
      EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
    }
  }
}

// All ranks but one stop within the time-out; which one stalls is found by
// asking. A rank that has called a collective and stalls inside it, and one
// that has not called it yet, are told apart.
TEST_P(OnMedium, ARankThatStallsIsNamedByAllWithinTheTimeOut) {
  for (const char* name : {"ring", "halving_doubling", "binomial_tree",
                           "hierarchical", "two_shot"}) {
    const Algorithm& algorithm =
        algorithm_by_name(Collective::kAllReduce, name);
    for (const int turn : {0, 2}) {
      const int victim = turn == 0 ? 0 : 2;
      const auto said = on_ranks(
          {.medium = GetParam(), .ranks = kRanks, .timeout = 600ms},
          [&](Transport& t) {
            if (!algorithm.runs_on(400, t)) {
              throw std::runtime_error(fmt::format(
                  "rank {} did not call it, stopped answering", victim));
            }
            const auto start = std::chrono::steady_clock::now();
            StrickenTransport stricken(t, t.rank() == victim ? turn : -1,
                                       stall_until_others_end);
            try {
              run_until_struck(algorithm, stricken);
            } catch (const PeerError& error) {
              expect(error.culprit == victim,
                     fmt::format("blames {}: {}", error.culprit, error.what()));
              expect(std::chrono::steady_clock::now() - start < 10s, "late");
              throw;
            }
          });
      for (int rank = 0; rank < kRanks; ++rank) {
        if (rank == victim) continue;
        EXPECT_THAT(said[rank], ::testing::ContainsRegex(fmt::format(
                                    "rank {} (did not call it|stopped "
                                    "answering)",
                                    victim)))
            << name << ", turn " << turn;
        if (turn == 0) {
          EXPECT_THAT(said[rank], HasSubstr("did not call it")) << name;
        }
      }
    }
  }
}

TEST_P(OnMedium, ARankThatLeavesIsNamed) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 3}, [](Transport& t) {
        if (t.rank() == 1) return;
        Buffers buffers(t.size());
        ring_all_reduce(buffers.operands(), t);
      });
  expect_named(said, 1, "left the group", "ring");
}

// Found before any data is touched, on every rank.
TEST_P(OnMedium, WhatRanksCallDifferentlyIsFoundBeforeDataIsTouched) {
  struct Difference {
    const char* says;
    void (*call)(Buffers&, Transport&);
  };
  const Difference differences[] = {
      {"all_reduce(float32[29999], sum)",
       [](Buffers& b, Transport& t) {
         ring_all_reduce(b.operands(kCount - 1), t);
       }},
      {"all_reduce(int32[30000], sum)",
       [](Buffers& b, Transport& t) {
         Operands o = b.operands();
         o.dtype = DType::kInt32;
         ring_all_reduce(o, t);
       }},
      {"all_reduce(float32[30000], max)",
       [](Buffers& b, Transport& t) {
         Operands o = b.operands();
         o.op = ReduceOp::kMax;
         ring_all_reduce(o, t);
       }},
      {"all_gather(float32[30000])",
       [](Buffers& b, Transport& t) { ring_all_gather(b.operands(), t); }},
      {"another algorithm",
       [](Buffers& b, Transport& t) {
         naive_ring_all_reduce(b.operands(), t);
       }},
  };
  for (const Difference& different : differences) {
    const auto said =
        on_ranks({.medium = GetParam(), .ranks = 3}, [&](Transport& t) {
          Buffers buffers(t.size());
          try {
            if (t.rank() == 2)
              different.call(buffers, t);
            else
              ring_all_reduce(buffers.operands(), t);
          } catch (const PeerError& error) {
            for (const float x : buffers.out) {
              if (x != 0) throw std::runtime_error("data was touched");
            }
            throw;
          }
        });
    const std::string all = said[0] + said[1] + said[2];
    EXPECT_THAT(all, HasSubstr(different.says));
    for (const auto& one : said) {
      EXPECT_THAT(one, HasSubstr("rank")) << different.says;
      EXPECT_THAT(one, ::testing::Not(HasSubstr("touched")));
    }
  }
}

TEST_P(OnMedium, RootsMustAgree) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        Buffers buffers(t.size());
        Operands o = buffers.operands();
        o.root = t.rank();
        algorithm_by_name(Collective::kReduce, "binomial_tree").run(o, t);
        t.begin({});
        t.wait_for_all();
      });
  EXPECT_THAT(said[0], HasSubstr("rank 1 called reduce(float32[30000], sum, "
                                 "root 1) instead"));
  EXPECT_THAT(said[1], HasSubstr("rank 0 called reduce(float32[30000], sum, "
                                 "root 0) instead"));
}

TEST_P(OnMedium, UnevenSizesMustAgreeByPair) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        // Rank 0 sends 8 bytes, rank 1 expects 12.
        std::vector<std::size_t> sends = {4, 8}, receives = {4, 16};
        if (t.rank() == 1) sends = {16, 4}, receives = {12, 4};
        std::vector<std::byte> in(64), out(64);
        pairwise_all_to_all_uneven({in.data(), out.data(), sends, receives}, t);
      });
  EXPECT_THAT(said[0], HasSubstr("rank 1 sends 16 bytes and expects 12, this "
                                 "rank expects 16 and sends 8"));
  EXPECT_THAT(said[1], HasSubstr("rank 0 sends 8 bytes and expects 16, this "
                                 "rank expects 12 and sends 16"));
}

// No algorithm writes a byte before it knows that all call the same. A root
// that only sends waits for nobody: it may have copied its own input by then.
TEST_P(OnMedium, NoAlgorithmTouchesItsOutputBeforeAllHaveCalled) {
  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.collective == Collective::kBarrier) continue;
    const auto said =
        on_ranks({.medium = GetParam(), .ranks = 3}, [&](Transport& t) {
          const std::size_t count =
              algorithm.needs == Needs::kSlots ? 100 : kCount;
          if (!algorithm.runs_on(4 * count, t)) return;
          Buffers buffers(t.size());
          try {
            // A barrier tells a rank that only sends, such as a root.
            algorithm.run(buffers.operands(count - (t.rank() == 1)), t);
            t.begin({});
            t.wait_for_all();
          } catch (const PeerError& error) {
            const bool only_sends =
                t.rank() == 0 &&
                (algorithm.collective == Collective::kBroadcast ||
                 algorithm.collective == Collective::kScatter);
            for (const float x : buffers.out) {
              if (x != 0 && !only_sends) throw std::runtime_error("touched");
            }
            return;
          }
          throw std::runtime_error("nobody noticed");
        });
    EXPECT_THAT(said, ::testing::Each(IsEmpty()))
        << algorithm.name << " " << to_string(algorithm.collective);
  }
}

// The direct algorithms go untested between processes where the kernel does not
// allow it, and nobody would know.
TEST(CrossMemoryAttach, IsAllowedHere) {
  const auto said = on_ranks(
      {.medium = Medium::kShm, .ranks = 2},
      [](Transport& t) { expect(t.window()->reaches_memory(), "refused"); });
  if (said[0] == "refused") GTEST_SKIP() << "direct algorithms were not tested";
  EXPECT_THAT(said, ::testing::Each(IsEmpty()));
}

// Whatever killed the ranks, and whenever.
TEST_P(OnMedium, NothingIsLeftInSharedMemory) {
  // Files of ours that this process, or /dev/shm, has.
  const auto ours = [] {
    std::set<std::string> found;
    for (const auto& file : std::filesystem::directory_iterator("/dev/shm")) {
      if (file.path().string().find("dai") != std::string::npos) {
        found.insert(file.path());
      }
    }
    for (const auto& fd :
         std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string to = std::filesystem::read_symlink(fd.path(), gone);
      if (to.find("memfd:dai-collectives") != std::string::npos) {
        found.insert(to);
      }
    }
    return found;
  };
  const bool shm = GetParam() != Medium::kTcp;
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 3}, [&](Transport& t) {
        Buffers buffers(t.size());
        ring_all_reduce(buffers.operands(), t);
        // It is this file that could be left, and it has no name.
        const auto mine = ours();
        expect(mine.size() == (shm ? 1u : 0u) &&
                   (!shm || mine.begin()->starts_with("/memfd:")),
               "another kind of file");
        raise(SIGKILL);
      });
  // A rank may be gone while another still waits for a third.
  EXPECT_THAT(said, ::testing::Contains("ended by signal 9"));
  EXPECT_THAT(said,
              ::testing::Each(AnyOf("ended by signal 9", HasSubstr(" died"))));
  EXPECT_THAT(ours(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Processes, OnMedium,
                         ::testing::Values(Medium::kShm, Medium::kShmStreams,
                                           Medium::kTcp),
                         [](const auto& info) {
                           return std::string(1, 'a' + info.index);
                         });

}  // namespace
}  // namespace dai::hardware::testing
