// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/tuning/explorer_options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

#include "common/errors.h"

namespace dai::ddp {

void ExplorerAppOptions::declare(OptionSet& set) {
  compared.declare(set);
  set.add("--sizes-mb", sizes_mb, "MiB a bucket, from small to large: 0.5,2,8");
  set.add("--trials", trials, "sizes that the tuner tries");
  // One microbatch a rank: the most wire that a step can have.
  set.preset("smoke", [this] {
    compared.set_sizes("nano-1m", 6, 0, 1, 64, 1e-2);
    compared.text_bytes = 1'000'000;
    sizes_mb = "0.1,0.5,8";
    trials = 2;
  });
  set.preset("laptop", [this] {
    compared.set_sizes("bench-9m", 40, 0, 1, 128, 1e-3);
    sizes_mb = "0.25,1,4,16,64";
  });
  for (const char* const of : {"gpu24", "gpu80", "node8x2"}) {
    set.preset(of, [this] {
      compared.set_sizes("base-110m", 30, 0, 4, 1024, 6e-4);
      sizes_mb = "1,4,16,64,256,1024";
    });
  }
}

std::string ExplorerAppOptions::to_string(std::uint64_t seed) const {
  return fmt::format("{} sizes_mb={} trials={}", compared.to_string(seed),
                     sizes_mb, trials);
}

ExploreOptions ExplorerAppOptions::options(std::uint64_t seed) const {
  ExploreOptions options{.training = compared.sizes(seed),
                         .trials = static_cast<std::size_t>(trials)};
  std::istringstream words(sizes_mb);
  for (std::string word; std::getline(words, word, ',');) {
    char* end = nullptr;
    options.sizes_mb.push_back(std::strtod(word.c_str(), &end));
    if (word.empty() || *end != '\0') {
      throw UsageError(fmt::format(
          "--sizes-mb {}: numbers of MiB with commas between them", sizes_mb));
    }
  }
  return options;
}

}  // namespace dai::ddp
