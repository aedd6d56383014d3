// SPDX-License-Identifier: Apache-2.0
#pragma once

// Figures that papers and manuals print, beside what the formulas of
// scale_plan.h give for the same sizes: the part of a planner that no run on
// one machine can prove.
//
//   for (const PublishedFigure& row : published_figures()) row.agrees();
//
// Sources: ZeRO (arXiv:1910.02054, figure 1), Megatron-LM's manual of its
// distributed optimizer, Korthikanti et al. (arXiv:2205.05198, section 5),
// The Llama 3 Herd of Models (arXiv:2407.21783). Torch-free.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

struct PublishedFigure {
  std::string source, what;
  double published = 0;
  double last_digit = 0;  // the unit of the last digit that was printed
  double ours = 0;

  bool agrees() const;  // ours, rounded like the printed figure, is equal
};

std::vector<PublishedFigure> published_figures();
std::int64_t figures_off(const std::vector<PublishedFigure>& figures);
std::string figures_table(const std::vector<PublishedFigure>& figures);

}  // namespace dai::intro
