// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/compression/hooks_options.h"

#include <fmt/format.h>

namespace dai::ddp {

void HooksAppOptions::declare(OptionSet& set) {
  compared.declare(set);
  set.add("--exchanges", exchanges,
          "which, with commas between them; the first is compared with");
  set.add("--powersgd-rank", powersgd.rank, "of the factors");
  set.add("--powersgd-start", powersgd.start_iter,
          "plain steps before PowerSGD's", /*min=*/2);
  set.add_flag("--without-feedback", without_feedback,
               "int8 and PowerSGD forget what they have lost");
  set.add("--bucket-mb", bucket_mb, "MiB that close a bucket");
  set.add("--first-bucket-mb", first_bucket_mb, "MiB that close the first one");
  set.add("--validation-windows", validation_windows,
          "held back, a multiple of the ranks' microbatches");
  set.preset("smoke", [this] {
    compared.set_sizes("nano-1m", 10, 12, 1, 32, 1e-2);
    compared.text_bytes = 1'000'000;
    bucket_mb = first_bucket_mb = 0.5;
    powersgd = {.rank = 4, .start_iter = 3};
    validation_windows = 48;
  });
  set.preset("laptop", [this] {
    compared.set_sizes("nano-1m", 200, 12, 1, 128, 8e-3);
    bucket_mb = first_bucket_mb = 1;
    powersgd = {.rank = 4, .start_iter = 30};
  });
  const auto large = [this](const char* of, int microbatches) {
    return [=, this] {
      compared.set_sizes(of, 2000, microbatches, 4, 1024, 6e-4);
      powersgd = {.rank = 4, .start_iter = 1000};
    };
  };
  set.preset("gpu24", large("small-5m", 12));
  set.preset("gpu80", large("base-110m", 12));
  set.preset("node8x2", large("base-110m", 48));
}

std::string HooksAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format(
      "{} exchanges={} powersgd={}/{} feedback={} bucket_mb={} "
      "first_bucket_mb={} validation_windows={}",
      compared.to_string(seed), exchanges, powersgd.rank, powersgd.start_iter,
      !without_feedback, bucket_mb, first_bucket_mb, validation_windows);
}

CompareExchangesOptions HooksAppOptions::options(std::uint64_t seed) const {
  CompareExchangesOptions options{
      .training = compared.sizes(seed),
      .sync = {.caps = BucketCaps::of_mib(first_bucket_mb, bucket_mb),
               .powersgd = powersgd,
               .error_feedback = !without_feedback},
      .validation_windows = validation_windows};
  options.exchanges = names_in("--exchanges", exchanges);
  return options;
}

}  // namespace dai::ddp
