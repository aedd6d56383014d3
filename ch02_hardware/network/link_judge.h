// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which link is the slow one? A link belongs to a node: all traffic of the node
// that leaves it goes through. So a slow link makes all pairs with that node
// slow, and no others; a slow pair between nodes that are fast otherwise is the
// way between the two. Pairs are compared with the best of their kind, those
// within nodes with each other, and those across. Ranks that take turns on the
// cores of a node say nothing of the ways between them: their pairs are not
// judged.
//
//   const LinkVerdict verdict = judge_links(bandwidths, nodes, names);
//   verdict.says    // "the link of node-2 is slow: 0.011 GB/s ..."

#include <string>
#include <vector>

namespace dai::hardware {

struct LinkVerdict {
  std::vector<int> slow_nodes;
  std::vector<std::pair<int, int>> slow_pairs;  // of ranks, not explained so
  double worst_ratio = 1;  // slowest pair over the best of its kind
  std::string says;
};

// bandwidth[a][b]: bytes a second from rank a to b, [ranks][ranks], the
// diagonal unused; nodes: [ranks], numbers; names: by number. A pair is slow
// below `threshold` of the best of its kind, in either direction.
LinkVerdict judge_links(const std::vector<std::vector<double>>& bandwidth,
                        const std::vector<int>& nodes,
                        const std::vector<std::string>& names,
                        bool judge_within_nodes = true, double threshold = 0.5);

}  // namespace dai::hardware
