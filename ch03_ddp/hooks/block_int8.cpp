// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/hooks/block_int8.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>

namespace dai::ddp {

std::int64_t int8_bytes(std::int64_t numbers) {
  return numbers + numbers / kInt8Block * 4;
}

at::Tensor pack_int8(const at::Tensor& numbers) {
  const std::int64_t rows = numbers.size(0);
  const at::Tensor blocks = numbers.reshape({rows, -1, kInt8Block});
  const at::Tensor scales = blocks.abs().amax(-1) / 127;
  // A block of zeros has scale 0; anything finite divides it well.
  const at::Tensor divisors = at::where(scales > 0, scales, 1);
  const at::Tensor packed = (blocks / divisors.unsqueeze(-1))
                                .round()
                                .clamp(-127, 127)
                                .nan_to_num(0)
                                .to(at::kChar);
  // A block that is not finite has such a scale, which says so on arrival.
  return at::cat({scales.contiguous().view(at::kByte),
                  packed.reshape({rows, -1}).view(at::kByte)},
                 1);
}

at::Tensor unpack_int8(const at::Tensor& bytes, std::int64_t n) {
  const std::int64_t rows = bytes.size(0), blocks = n / kInt8Block;
  const at::Tensor scales =
      bytes.narrow(1, 0, blocks * 4).contiguous().view(at::kFloat);
  const at::Tensor packed = bytes.narrow(1, blocks * 4, n)
                                .contiguous()
                                .view(at::kChar)
                                .reshape({rows, blocks, kInt8Block});
  const at::Tensor finite = scales.isfinite();
  const at::Tensor good = at::where(finite, scales, scales - scales);  // NaN
  return (packed.to(at::kFloat) * good.unsqueeze(-1)).reshape({rows, n});
}

}  // namespace dai::ddp
