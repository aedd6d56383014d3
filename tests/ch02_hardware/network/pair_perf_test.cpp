// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/network/pair_perf.h"

#include <gmock/gmock.h>

#include "tests/ch02_hardware/support/rank_runner.h"

namespace dai::hardware::testing {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;

// Every rank gets the same number, whoever measured, and all bytes were right.
TEST(PairPerf, MeasuresAnyPairAndTellsAll) {
  for (const Medium medium : {Medium::kThreads, Medium::kShm, Medium::kTcp}) {
    const auto said =
        on_ranks({.medium = medium, .ranks = 3}, [](Transport& t) {
          PairPerf pair(t, {.effort = 0.002, .most_seconds = 1, .window = 8});
          for (const std::size_t bytes : {std::size_t{1}, std::size_t{20000}}) {
            expect(pair.latency_s(0, 2, bytes) > 0, "no latency");
            expect(pair.bandwidth(2, 1, bytes) > 0, "no bandwidth");
            expect(pair.bidirectional_bandwidth(1, 0, bytes) > 0, "no both");
          }
          expect(pair.wrong_bytes() == 0, "wrong bytes");
        });
    EXPECT_THAT(said, Each(IsEmpty())) << to_string(medium);
  }
}

// A receiver that gets zeros where the pattern should be must not be content.
class LosingTransport final : public Transport {
 public:
  explicit LosingTransport(Transport& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string medium() const override { return inner_.medium(); }
  void begin(const Call& call) override { inner_.begin(call); }
  void wait_for_all() override { inner_.wait_for_all(); }
  void exchange(std::span<const Outgoing> out,
                std::span<const Incoming> in) override {
    inner_.exchange(out, in);
    for (const Incoming& one : in) {
      if (one.bytes > 8) static_cast<std::byte*>(one.data)[7] = std::byte{0};
    }
  }

 private:
  Transport& inner_;
};

TEST(PairPerf, SeesBytesThatWereLost) {
  const auto said =
      on_ranks({.medium = Medium::kThreads, .ranks = 2}, [](Transport& t) {
        LosingTransport losing(t);
        PairPerf pair(losing,
                      {.effort = 0.001, .most_seconds = 1, .window = 2});
        pair.bandwidth(0, 1, 1000);
        expect(pair.wrong_bytes() == (t.rank() == 1 ? 1u : 0u), "not seen");
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

}  // namespace
}  // namespace dai::hardware::testing
