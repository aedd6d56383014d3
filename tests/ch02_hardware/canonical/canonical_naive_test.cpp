// SPDX-License-Identifier: Apache-2.0

// The tree gives the bits of chapter 1's naive_canonical_sum, which gathers
// every microbatch everywhere. At 1 to 4 ranks, over Gloo and over this
// chapter's own transports.

#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include "ch01_intro/sync/canonical_sum.h"
#include "ch02_hardware/canonical/canonical_tree.h"
#include "ch02_hardware/perf/direct_group.h"
#include "tests/support/distributed_test.h"

namespace dai::hardware {
namespace {

using dai::testing::group;

TEST(CanonicalTree, EqualsTheNaiveSumBitForBit) {
  constexpr std::int64_t kMicrobatches = 12;
  constexpr std::int64_t kCount = 10007;
  at::manual_seed(5);
  const at::Tensor rows = at::randn({kMicrobatches, kCount});
  const std::int64_t mine = kMicrobatches / group().size();
  const std::int64_t first = group().rank() * mine;
  const at::Tensor naive =
      intro::naive_canonical_sum(rows.narrow(0, first, mine).clone(), &group());

  for (const char* medium : {"shm", "tcp"}) {
    DirectOptions options;
    options.medium = medium;
    const DirectGroup direct =
        connect_direct(testing::launch(), group(), options);
    const CanonicalTree tree(
        CanonicalTree::even_owners(kMicrobatches, group().size()));
    CanonicalAccumulator sums(tree, group().rank(), kCount, DType::kFloat32);
    for (std::int64_t id = first; id < first + mine; ++id) {
      sums.add(id, rows[id].const_data_ptr());
    }
    const at::Tensor sum = at::empty({kCount});
    canonical_all_reduce(tree, sums.partials(), sum.mutable_data_ptr(), kCount,
                         DType::kFloat32, direct.communicator->transport());
    EXPECT_TRUE(at::equal(sum, naive)) << medium;
    // And not those of a sum in another order.
    EXPECT_FALSE(at::equal(sum, rows.sum(0)));
  }
}

}  // namespace
}  // namespace dai::hardware
