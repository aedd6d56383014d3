// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/climb/ladder_options.h"

#include <fmt/format.h>

namespace dai::ddp {

void LadderAppOptions::declare(OptionSet& set) {
  compared.declare(set);
  set.add("--exchange", exchange, {"all_reduce", "canonical"},
          "canonical: sums that no layout changes, bit for bit");
  set.add("--bucket-mb", bucket_mb, "MiB that close a bucket");
  set.add("--first-bucket-mb", first_bucket_mb,
          "MiB that close the first one, of all rungs but reducer");
  // Of models of 5 and 36 MB: several buckets, or nothing could overlap.
  set.preset("smoke", [this] {
    compared.set_sizes("nano-1m", 6, 12, 1, 64, 1e-2);
    compared.text_bytes = 1'000'000;
    bucket_mb = first_bucket_mb = 0.5;
  });
  set.preset("laptop", [this] {
    compared.set_sizes("bench-9m", 12, 12, 1, 128, 1e-3);
    bucket_mb = 4;
  });
  set.preset("gpu24", [this] {
    compared.set_sizes("base-110m", 50, 12, 4, 1024, 6e-4);
  });
  set.preset("gpu80", [this] {
    compared.set_sizes("large-730m", 50, 24, 4, 1024, 3e-4);
  });
  set.preset("node8x2", [this] {
    compared.set_sizes("base-110m", 50, 48, 4, 1024, 6e-4);
  });
}

std::string LadderAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format("{} exchange={} bucket_mb={} first_bucket_mb={}",
                     compared.to_string(seed), exchange, bucket_mb,
                     first_bucket_mb);
}

LadderOptions LadderAppOptions::options(std::uint64_t seed) const {
  return {.training = compared.sizes(seed),
          .sync = {.exchange = exchange,
                   .caps = BucketCaps::of_mib(first_bucket_mb, bucket_mb)}};
}

}  // namespace dai::ddp
