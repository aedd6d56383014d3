// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/perf_table.h"

#include <gmock/gmock.h>

#include <cstring>

#include "ch02_hardware/perf/known_data.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using ::testing::ElementsAre;

// One rank that computes a collective by copying; broken on demand.
class OneRank final : public CollectiveTarget {
 public:
  explicit OneRank(bool broken = false) : broken_(broken) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string description() const override { return "one"; }
  bool offers(Collective, bool in_place) const override { return !in_place; }
  void run(Collective, const Operands& o) override {
    ++runs;
    std::memcpy(o.output, o.input, o.bytes());
    if (broken_ && o.bytes() > 4) o.out()[5] = std::byte{0x33};
  }
  void* allocate(std::size_t bytes) override {
    rooms_.emplace_back(bytes);
    return rooms_.back().data();
  }
  void release() override { rooms_.clear(); }
  void write(void* to, const void* from, std::size_t n) override {
    std::memcpy(to, from, n);
  }
  void read(void* to, const void* from, std::size_t n) override {
    std::memcpy(to, from, n);
  }
  double sum(double mine) override { return mine; }
  double largest(double mine) override { return mine; }
  int runs = 0;

 private:
  const bool broken_;
  std::vector<std::vector<std::byte>> rooms_;
};

std::vector<PerfRow> measured(OneRank& target, const PerfOptions& options) {
  std::vector<PerfRow> rows;
  measure_collective(target, options,
                     [&](const PerfRow& row) { rows.push_back(row); });
  return rows;
}
std::vector<double> sizes(const std::vector<PerfRow>& rows) {
  std::vector<double> all;
  for (const PerfRow& row : rows) all.push_back(row.size_bytes);
  return all;
}

TEST(PerfTable, GoesThroughTheSizes) {
  OneRank target;
  PerfOptions options{
      .min_bytes = 8, .max_bytes = 70, .factor = 2, .rounds = 3, .warm_up = 2};
  const auto doubled = measured(target, options);
  EXPECT_THAT(sizes(doubled), ElementsAre(8, 16, 32, 64));
  // Warm-up, rounds, and once to check.
  EXPECT_EQ(target.runs, 4 * (2 + 3 + 1));
  EXPECT_FALSE(doubled[0].in_place);
  EXPECT_EQ(doubled[0].out_of_place->wrong, 0u);

  options.factor = 0;
  options.step_bytes = 20;
  EXPECT_THAT(sizes(measured(target, options)), ElementsAre(8, 28, 48, 68));
  options.min_bytes = 1;  // less than an element: one row for nothing at all
  options.max_bytes = 5;
  options.step_bytes = 1;
  EXPECT_THAT(sizes(measured(target, options)), ElementsAre(0, 4));
}

TEST(PerfTable, CountsWrongElementsUnlessToldNotToLook) {
  OneRank target(/*broken=*/true);
  PerfOptions options{.min_bytes = 400, .max_bytes = 400};
  EXPECT_EQ(measured(target, options)[0].out_of_place->wrong, 1u);
  options.check = false;
  EXPECT_FALSE(measured(target, options)[0].out_of_place->wrong);
}

TEST(PerfTable, ALineHasNcclTestsColumns) {
  PerfRow row;
  row.size_bytes = 1048576;
  row.count = 262144;
  row.in_place = PerfResult{{1e-3, 1e-3}, 1.05, 1.57, 0};
  EXPECT_EQ(perf_line({}, row),
            "     1048576       262144   float32    sum    -1         N/A     "
            "N/A     N/A    N/A      1000.0    1.05    1.57      0");
}

TEST(PerfTable, SizesAreReadWithTheirUnits) {
  EXPECT_EQ(parse_bytes("512"), 512u);
  EXPECT_EQ(parse_bytes("8K"), 8192u);
  EXPECT_EQ(parse_bytes("1.5m"), 1572864u);
  EXPECT_EQ(parse_bytes("2G"), 2147483648u);
  for (const char* bad : {"", "K", "8KB", "-1", "1e30", "nan", "8 K"}) {
    EXPECT_THROW(parse_bytes(bad), UsageError) << bad;
  }
}

TEST(PerfTable, OptionsThatMakeNoSenseAreRefused) {
  EXPECT_THROW(check_options({.min_bytes = 2, .max_bytes = 1}, 2), UsageError);
  EXPECT_THROW(check_options({.factor = 1, .step_bytes = 0}, 2), UsageError);
  EXPECT_THROW(check_options({.root = 2}, 2), UsageError);
  EXPECT_THROW(check_options({.dtype = DType::kBool, .op = ReduceOp::kAvg}, 2),
               UsageError);
  EXPECT_NO_THROW(check_options({}, 2));
}

// The yardstick itself, against numbers worked out by hand.
TEST(KnownData, ExpectsWhatTheCollectiveMakesOfItsInputs) {
  KnownData data{.what = Collective::kAllReduce, .count = 3};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(data.expected(1, 3, i),
              data.input(0, i) + data.input(1, i) + data.input(2, i));
  }
  data.op = ReduceOp::kMax;
  EXPECT_EQ(data.expected(0, 2, 1),
            std::max(data.input(0, 1), data.input(1, 1)));
  data.what = Collective::kReduceScatter;
  data.op = ReduceOp::kSum;
  EXPECT_EQ(data.expected(1, 2, 2), data.input(0, 5) + data.input(1, 5));
  data.what = Collective::kAllToAll;
  EXPECT_EQ(data.expected(1, 2, 4), data.input(1, 3 + 1));
  data.what = Collective::kScatter;
  data.root = 1;
  EXPECT_EQ(data.expected(0, 2, 2), data.input(1, 2));
  EXPECT_EQ(data.input_count(0, 2), 0u);
  std::vector<float> out(3);
  data.spoil_output(0, 2, out.data());
  EXPECT_EQ(data.count_wrong(0, 2, out.data()), 3u);
}

}  // namespace
}  // namespace dai::hardware
