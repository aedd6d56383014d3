// SPDX-License-Identifier: Apache-2.0

// The fused operations on CUDA tensors, the inside of libdai_ch01_cuda.so:
// shapes and streams here, arithmetic in decoder_kernels.cu.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "ch01_intro/decoder/cuda/decoder_kernels.cuh"
#include "ch01_intro/decoder/fused_device.h"
#include "ch01_intro/decoder/loss_chunk.h"
#include "ch01_intro/decoder/strided_rows.h"

namespace dai::intro {
namespace {

using i64 = std::int64_t;

template <class T>
T* data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr())
                          : nullptr;
}

template <class T>
const T* const_data(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class Body>
void with_type(const at::Tensor& tensor, Body body) {
  tensor.scalar_type() == at::kFloat ? body.template operator()<float>()
                                     : body.template operator()<Bf16>();
}

// The tensor's device made current, and the stream that its readers use.
struct OnDevice {
  c10::cuda::CUDAGuard guard;
  cudaStream_t stream;
  explicit OnDevice(const at::Tensor& tensor)
      : guard(tensor.device()),
        stream(c10::cuda::getCurrentCUDAStream().stream()) {}
};

std::array<at::Tensor, 2> rms_norm(const at::Tensor& x,
                                   const at::Tensor& weight, double eps) {
  const OnDevice on(x);
  const at::Tensor in = x.contiguous(), w = weight.contiguous();
  const i64 hidden = w.numel(), rows = hidden ? in.numel() / hidden : 0;
  const at::Tensor y = at::empty_like(in);
  const at::Tensor inverse = at::empty({rows}, in.options().dtype(at::kFloat));
  with_type(in, [&]<class T>() {
    cuda::rms_norm(const_data<T>(in), const_data<float>(w),
                   static_cast<float>(eps), data<T>(y), data<float>(inverse),
                   rows, hidden, on.stream);
  });
  return {y, inverse};
}

std::array<at::Tensor, 2> rms_norm_backward(const at::Tensor& dy,
                                            const at::Tensor& x,
                                            const at::Tensor& weight,
                                            const at::Tensor& inverse,
                                            Wanted wanted) {
  const OnDevice on(x);
  const at::Tensor g = dy.contiguous(), in = x.contiguous();
  const at::Tensor w = weight.contiguous();
  const i64 hidden = w.numel(), rows = hidden ? in.numel() / hidden : 0;
  const at::Tensor dx = wanted.first ? at::empty_like(in) : at::Tensor();
  const at::Tensor sums =
      wanted.second ? at::empty({norm_blocks(rows), hidden}, w.options())
                    : at::Tensor();
  with_type(in, [&]<class T>() {
    cuda::rms_norm_backward(const_data<T>(g), const_data<T>(in),
                            const_data<float>(w), const_data<float>(inverse),
                            data<T>(dx), data<float>(sums), rows, hidden,
                            on.stream);
  });
  return {dx, sums.defined() ? sums.sum(0) : sums};
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table, float sign) {
  const OnDevice on(x);
  const at::Tensor in = x.stride(3) == 1 ? x : x.contiguous();
  const at::Tensor y = at::empty_like(in);
  const at::Tensor cos = table.cos.contiguous(), sin = table.sin.contiguous();
  const RopeShape shape{in.size(1),   in.size(2),   in.size(3) / 2,
                        in.stride(0), in.stride(1), in.stride(2),
                        y.stride(0),  y.stride(1),  y.stride(2)};
  with_type(in, [&]<class T>() {
    cuda::rope(const_data<T>(in), data<T>(y), const_data<float>(cos),
               const_data<float>(sin), sign, shape, in.numel() / 2, on.stream);
  });
  return y;
}

template <class T>
cuda::Rows<T> rows_of(const StridedRows& rows) {
  return {rows.row<T>(0), rows.stride};
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const OnDevice on(gate);
  const StridedRows g(gate), u(up);
  const at::Tensor out = at::empty_like(gate, at::MemoryFormat::Contiguous);
  with_type(gate, [&]<class T>() {
    cuda::swiglu(rows_of<T>(g), rows_of<T>(u), data<T>(out), g.width,
                 out.numel(), on.stream);
  });
  return out;
}

std::array<at::Tensor, 2> swiglu_backward(const at::Tensor& dout,
                                          const at::Tensor& gate,
                                          const at::Tensor& up) {
  const OnDevice on(gate);
  const StridedRows d(dout), g(gate), u(up);
  const at::Tensor dgate = at::empty_like(gate, at::MemoryFormat::Contiguous);
  const at::Tensor dup = at::empty_like(dgate);
  with_type(gate, [&]<class T>() {
    cuda::swiglu_backward(rows_of<T>(d), rows_of<T>(g), rows_of<T>(u),
                          data<T>(dgate), data<T>(dup), g.width, dgate.numel(),
                          on.stream);
  });
  return {dgate, dup};
}

// As on the CPU, chunk by chunk; cuBLAS fills the device, so a chunk's three
// products and its softmax simply follow each other on the stream.
LossAndGradients token_loss(const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets, at::ScalarType type,
                            Wanted wanted) {
  const OnDevice on(hidden);
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autocast_dispatch_keyset);
  const i64 tokens = hidden.size(0), vocab = head.size(0);
  const at::Tensor h = hidden.to(type).contiguous();
  const at::Tensor w = head.to(type).contiguous();
  const at::Tensor target = targets.contiguous();
  const at::Tensor losses = at::empty({tokens}, h.options().dtype(at::kFloat));
  const at::Tensor dhidden = wanted.first ? at::empty_like(h) : at::Tensor();
  const at::Tensor dhead =
      wanted.second ? at::zeros(w.sizes(), w.options().dtype(at::kFloat))
                    : at::Tensor();
  const i64 chunk = std::min(tokens, loss_chunk_tokens(vocab, kCudaLossBytes));
  const at::Tensor all_logits = at::empty({chunk, vocab}, h.options());
  for (i64 begin = 0; begin < tokens; begin += chunk) {
    const i64 count = std::min(chunk, tokens - begin);
    const at::Tensor rows = h.narrow(0, begin, count);
    at::Tensor logits = all_logits.narrow(0, 0, count);
    at::mm_out(logits, rows, w.t());
    with_type(logits, [&]<class T>() {
      cuda::softmax_loss(data<T>(logits), const_data<i64>(target) + begin,
                         data<float>(losses) + begin, wanted.any(), count,
                         vocab, on.stream);
    });
    if (wanted.first) {
      at::Tensor out = dhidden.narrow(0, begin, count);
      at::mm_out(out, logits, w);
    }
    if (wanted.second && type == at::kFloat) {
      at::Tensor sum = dhead;
      at::addmm_out(sum, dhead, logits.t(), rows);
    } else if (wanted.second) {
      dhead.add_(at::mm(logits.t(), rows));  // float32 += bfloat16
    }
  }
  LossAndGradients result{losses.sum(), dhidden, dhead};
  if (wanted.first) result.dhidden = dhidden.to(hidden.scalar_type());
  if (wanted.second) result.dhead = dhead.to(head.scalar_type());
  return result;
}

}  // namespace

extern "C" const FusedDevice* dai_ch01_fused_cuda() {
  static const FusedDevice device{rms_norm, rms_norm_backward, rope,
                                  swiglu,   swiglu_backward,   token_loss};
  return &device;
}

}  // namespace dai::intro
