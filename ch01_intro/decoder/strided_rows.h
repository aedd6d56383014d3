// SPDX-License-Identifier: Apache-2.0
#pragma once

// [..., width] seen as rows: what the fused operations ask of a layout. Slices
// of one wider projection pass as they are; anything less regular is copied.
//
//   const StridedRows gate(tensor);
//   for (std::int64_t r = 0; r < gate.rows; ++r) use(gate.row<float>(r));

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dai::intro {

struct StridedRows {
  at::Tensor tensor;  // given, or its contiguous copy; keeps the bytes alive
  std::int64_t rows = 0, width = 0;
  std::int64_t stride = 0;  // from a row's first element to the next one's

  // `t` has at least one dimension.
  explicit StridedRows(const at::Tensor& t) : tensor(t), width(t.size(-1)) {
    rows = width == 0 ? 0 : t.numel() / width;
    stride = t.dim() > 1 ? t.stride(-2) : width;
    bool regular = t.stride(-1) == 1 || width == 1;
    for (std::int64_t d = t.dim() - 3; d >= 0; --d) {
      regular &= t.stride(d) == t.stride(d + 1) * t.size(d + 1);
    }
    if (!regular) {
      tensor = t.contiguous();
      stride = width;
    }
  }

  template <class T>
  const T* row(std::int64_t r) const {
    return static_cast<const T*>(tensor.const_data_ptr()) + r * stride;
  }
};

}  // namespace dai::intro
