// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/power_of_two.h"

#include <bit>

namespace dai::hardware {

PowerOfTwo::PowerOfTwo(const Transport& t)
    : size(static_cast<int>(std::bit_floor(static_cast<unsigned>(t.size())))),
      extra(t.size() - size) {
  if (t.rank() >= 2 * extra)
    index = t.rank() - extra;
  else if (t.rank() % 2 == 1)
    index = t.rank() / 2;
}

int PowerOfTwo::rank_of(int i) const {
  return i < extra ? 2 * i + 1 : i + extra;
}

const std::byte* PowerOfTwo::fold(const Operands& o, Transport& t) const {
  if (t.rank() >= 2 * extra) return o.in();
  if (index < 0) {
    t.send(t.rank() + 1, o.input, o.bytes());
    return nullptr;
  }
  const Combine sum{o.dtype, o.op, o.input, /*received_first=*/true};
  t.receive(t.rank() - 1, o.output, o.bytes(), &sum);
  return o.out();
}

void PowerOfTwo::unfold(void* output, std::size_t bytes, Transport& t) const {
  if (t.rank() >= 2 * extra) return;
  if (index < 0)
    t.receive(t.rank() + 1, output, bytes);
  else
    t.send(t.rank() - 1, output, bytes);
}

}  // namespace dai::hardware
