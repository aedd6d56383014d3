// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/collectives/operands.h"

#include <memory>

#include "ch02_hardware/reduction/combine.h"
#include "common/fnv1a.h"

namespace dai::hardware {

Slice slice_of(std::size_t count, DType dtype, int index, int parts) {
  const std::size_t first = count * index / parts;
  const std::size_t last = count * (index + 1) / parts;
  const std::size_t element = size_of(dtype);
  return {first * element, (last - first) * element, last - first};
}

Call call_of(Collective what, const Operands& operands,
             std::string_view algorithm) {
  Call call;
  call.what = what;
  call.count = operands.count;
  call.dtype = operands.dtype;
  call.op = operands.op;
  call.root = operands.root;
  call.algorithm = static_cast<std::uint32_t>(fnv1a(algorithm));
  call.input = operands.input;
  call.output = operands.output;
  return call;
}

Call rootless_call_of(Collective what, const Operands& operands,
                      std::string_view algorithm) {
  Call call = call_of(what, operands, algorithm);
  call.root = -1;
  return call;
}

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (to != from) copy_piece(to, from, bytes);
}

std::byte* scratch(std::size_t bytes) {
  thread_local std::unique_ptr<std::byte[]> room;
  thread_local std::size_t size = 0;
  if (size < bytes) {
    size = 0;
    room.reset();
    room.reset(new std::byte[bytes]);
    size = bytes;
  }
  return room.get();
}

}  // namespace dai::hardware
