// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/roofline/matmul_peak.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "ch01_intro/decoder/cpu_product.h"
#include "ch01_intro/roofline/device_timer.h"
#include "common/errors.h"

namespace dai::intro {

MatmulPool::MatmulPool(at::Device device, at::ScalarType dtype,
                       std::int64_t elements, std::uint64_t seed) {
  if (dtype != at::kFloat && dtype != at::kBFloat16 && dtype != at::kHalf) {
    throw UsageError(
        fmt::format("matmul peak of {}: accepted are fp32, bf16 "
                    "and fp16",
                    c10::toString(dtype)));
  }
  at::Generator generator = at::detail::createCPUGenerator(seed);
  const auto random = [&] {
    return at::randn({elements}, generator, at::TensorOptions(at::kCPU))
        .to(device, dtype);
  };
  input_ = random();
  weight_ = random();
  output_ = at::empty({elements}, input_.options());
}

std::vector<double> MatmulPool::timed(const MatmulShape& shape, double seconds,
                                      int at_least) {
  const auto matrix = [](const at::Tensor& pool, std::int64_t rows,
                         std::int64_t columns) {
    if (rows < 1 || columns < 1 || rows * columns > pool.numel()) {
      throw std::invalid_argument(
          fmt::format("matmul pool: [{}, {}] out of {} elements", rows, columns,
                      pool.numel()));
    }
    return pool.narrow(0, 0, rows * columns).view({rows, columns});
  };
  const at::Tensor input = matrix(input_, shape.m, shape.k);
  const at::Tensor weight = matrix(weight_, shape.n, shape.k);
  if (input_.is_cpu() && input_.scalar_type() == at::kFloat &&
      onednn_is_faster()) {
    return repeat_timed(
        input_.device(), [&] { product(input, weight); }, seconds, at_least);
  }
  at::Tensor output = matrix(output_, shape.m, shape.n);
  return repeat_timed(
      input_.device(), [&] { at::mm_out(output, input, weight.t()); }, seconds,
      at_least);
}

MatmulPeak achievable_matmul_peak(const MatmulPeakOptions& options) {
  const std::int64_t largest =
      std::max<std::int64_t>(1, options.search.largest);
  MatmulPool pool(options.device, options.dtype, largest * largest,
                  options.seed);
  return search_matmul_peak(options.search,
                            [&](const MatmulShape& shape, double seconds) {
                              return pool.timed(shape, seconds);
                            });
}

}  // namespace dai::intro
