// SPDX-License-Identifier: Apache-2.0

// The fused operations on CPU tensors: shapes and threads here, arithmetic in
// decoder_kernels.h.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "ch01_intro/decoder/cpu_product.h"
#include "ch01_intro/decoder/decoder_kernels.h"
#include "ch01_intro/decoder/fused_device.h"
#include "ch01_intro/decoder/loss_chunk.h"
#include "ch01_intro/decoder/row_ranges.h"
#include "ch01_intro/decoder/strided_rows.h"

namespace dai::intro {
namespace {

using i64 = std::int64_t;

// Elements that are worth waking a thread for (about 10 us of work).
constexpr i64 kGrain = 1 << 14;
// Rows whose weight gradients are added by one thread, one after the other;
// the blocks' sums are then added in order. Fixed, and so are the bits.
constexpr i64 kNormBlock = 64;

const DecoderKernels& kernels() {
  static const DecoderKernels widest = decoder_kernels().front();
  return widest;
}

template <class T>
const OpKernels<T>& ops() {
  if constexpr (std::is_same_v<T, float>) return kernels().f32;
  if constexpr (std::is_same_v<T, Bf16>) return kernels().bf16;
}

template <class T>
T* data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
const T* const_data(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// Calls f.template operator()<T>() with the tensor's element type.
template <class Body>
auto with_type(const at::Tensor& tensor, Body body) {
  return tensor.scalar_type() == at::kFloat ? body.template operator()<float>()
                                            : body.template operator()<Bf16>();
}

i64 rows_worth_a_thread(i64 width) {
  return std::max<i64>(1, kGrain / std::max<i64>(1, width));
}

std::array<at::Tensor, 2> rms_norm(const at::Tensor& x,
                                   const at::Tensor& weight, double eps) {
  const at::Tensor in = x.contiguous(), w = weight.contiguous();
  const i64 hidden = w.numel(), rows = hidden ? in.numel() / hidden : 0;
  const at::Tensor y = at::empty_like(in);
  const at::Tensor inverse = at::empty({rows}, in.options().dtype(at::kFloat));
  with_type(in, [&]<class T>() {
    for_row_ranges(rows, rows_worth_a_thread(hidden), [&](i64 begin, i64 end) {
      ops<T>().rms_norm(const_data<T>(in) + begin * hidden,
                        const_data<float>(w), static_cast<float>(eps),
                        data<T>(y) + begin * hidden,
                        data<float>(inverse) + begin, end - begin, hidden);
    });
  });
  return {y, inverse};
}

std::array<at::Tensor, 2> rms_norm_backward(const at::Tensor& dy,
                                            const at::Tensor& x,
                                            const at::Tensor& weight,
                                            const at::Tensor& inverse,
                                            Wanted wanted) {
  const at::Tensor g = dy.contiguous(), in = x.contiguous();
  const at::Tensor w = weight.contiguous();
  const i64 hidden = w.numel(), rows = hidden ? in.numel() / hidden : 0;
  const i64 blocks = (rows + kNormBlock - 1) / kNormBlock;
  const at::Tensor dx = wanted.first ? at::empty_like(in) : at::Tensor();
  const at::Tensor sums =
      wanted.second ? at::empty({blocks, hidden}, w.options()) : at::Tensor();
  with_type(in, [&]<class T>() {
    for_row_ranges(blocks, 1, [&](i64 first, i64 last) {
      for (i64 b = first; b < last; ++b) {
        const i64 begin = b * kNormBlock;
        const i64 at = begin * hidden;
        ops<T>().rms_norm_backward(
            const_data<T>(g) + at, const_data<T>(in) + at, const_data<float>(w),
            const_data<float>(inverse) + begin,
            wanted.first ? data<T>(dx) + at : nullptr,
            wanted.second ? data<float>(sums) + b * hidden : nullptr,
            std::min(kNormBlock, rows - begin), hidden);
      }
    });
  });
  at::Tensor dweight;
  if (wanted.second) {
    dweight = at::zeros({hidden}, w.options());
    auto* total = data<float>(dweight);
    for (i64 b = 0; b < blocks; ++b) {
      const float* sum = const_data<float>(sums) + b * hidden;
      for (i64 i = 0; i < hidden; ++i) total[i] += sum[i];
    }
  }
  return {dx, dweight};
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table, float sign) {
  const at::Tensor in = x.stride(3) == 1 ? x : x.contiguous();
  const at::Tensor y = at::empty_like(in);  // keeps the order of dimensions
  const at::Tensor cos = table.cos.contiguous(), sin = table.sin.contiguous();
  const i64 seq = in.size(1), heads = in.size(2), half = in.size(3) / 2;
  with_type(in, [&]<class T>() {
    for_row_ranges(
        in.size(0) * seq, rows_worth_a_thread(heads * half * 2),
        [&](i64 begin, i64 end) {
          for (i64 row = begin; row < end; ++row) {
            const i64 b = row / seq, s = row % seq;
            ops<T>().rope(
                const_data<T>(in) + b * in.stride(0) + s * in.stride(1),
                in.stride(2), data<T>(y) + b * y.stride(0) + s * y.stride(1),
                y.stride(2), const_data<float>(cos) + s * half,
                const_data<float>(sin) + s * half, sign, heads, half);
          }
        });
  });
  return y;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const StridedRows g(gate), u(up);
  const at::Tensor out = at::empty_like(gate, at::MemoryFormat::Contiguous);
  with_type(gate, [&]<class T>() {
    for_row_ranges(g.rows, rows_worth_a_thread(g.width),
                   [&](i64 begin, i64 end) {
                     for (i64 r = begin; r < end; ++r) {
                       ops<T>().swiglu(g.row<T>(r), u.row<T>(r),
                                       data<T>(out) + r * g.width, g.width);
                     }
                   });
  });
  return out;
}

std::array<at::Tensor, 2> swiglu_backward(const at::Tensor& dout,
                                          const at::Tensor& gate,
                                          const at::Tensor& up) {
  const StridedRows d(dout), g(gate), u(up);
  const at::Tensor dgate = at::empty_like(gate, at::MemoryFormat::Contiguous);
  const at::Tensor dup = at::empty_like(dgate);
  with_type(gate, [&]<class T>() {
    for_row_ranges(
        g.rows, rows_worth_a_thread(g.width), [&](i64 begin, i64 end) {
          for (i64 r = begin; r < end; ++r) {
            ops<T>().swiglu_backward(d.row<T>(r), g.row<T>(r), u.row<T>(r),
                                     data<T>(dgate) + r * g.width,
                                     data<T>(dup) + r * g.width, g.width);
          }
        });
  });
  return {dgate, dup};
}

// Matrix products must reach their kernels straight, on whichever thread:
// autocast would change their types, autograd would record them.
struct PlainCalls {
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
};

// One loss over chunks of tokens. Logits of a chunk stay in the L2 and L3
// caches between the product that makes them, softmax and the two products
// that use their gradient.
class ChunkedLoss {
 public:
  ChunkedLoss(const at::Tensor& hidden, const at::Tensor& head,
              const at::Tensor& targets, at::ScalarType type, Wanted wanted)
      : wanted_(wanted),
        tokens_(hidden.size(0)),
        vocab_(head.size(0)),
        chunk_(std::min(tokens_, loss_chunk_tokens(vocab_, kCpuLossBytes))),
        hidden_(hidden.to(type).contiguous()),
        head_(head.to(type).contiguous()),
        targets_(targets.contiguous()),
        losses_(at::empty({tokens_}, hidden_.options().dtype(at::kFloat))) {
    if (wanted.first) dhidden_ = at::empty_like(hidden_);
    if (wanted.second) {
      dhead_ = at::empty(head_.sizes(), head_.options().dtype(at::kFloat));
      if (tokens_ == 0) dhead_.zero_();
    }
  }

  LossAndGradients run(at::ScalarType hidden_type, at::ScalarType head_type) {
    for (i64 begin = 0; begin < tokens_; begin += chunk_) {
      const i64 count = std::min(chunk_, tokens_ - begin);
      logits_of(begin, count);
      for_tasks((count + kTokenBlock - 1) / kTokenBlock,
                [&](i64 first, i64 last) {
                  const PlainCalls plain;
                  for (i64 b = first; b < last; ++b) {
                    const i64 row = b * kTokenBlock;
                    token_block(begin, row, std::min(kTokenBlock, count - row));
                  }
                });
      if (!wanted_.second) continue;
      for_tasks((vocab_ + kVocabBlock - 1) / kVocabBlock,
                [&](i64 first, i64 last) {
                  const PlainCalls plain;
                  for (i64 b = first; b < last; ++b) {
                    const i64 entry = b * kVocabBlock;
                    vocab_block(begin, count, entry,
                                std::min(kVocabBlock, vocab_ - entry));
                  }
                });
    }
    double total = 0;
    for (i64 t = 0; t < tokens_; ++t) total += const_data<float>(losses_)[t];
    LossAndGradients result{at::empty({}, losses_.options()), dhidden_, dhead_};
    *data<float>(result.loss) = static_cast<float>(total);
    if (wanted_.first) result.dhidden = dhidden_.to(hidden_type);
    if (wanted_.second) result.dhead = dhead_.to(head_type);
    return result;
  }

 private:
  bool onednn() const {
    return hidden_.scalar_type() == at::kFloat && onednn_is_faster();
  }

  // oneDNN returns what it makes and takes no tensor to write to: it makes the
  // chunk's logits at once, since a copy would cost as much as the softmax.
  void logits_of(i64 begin, i64 count) {
    if (onednn()) {
      logits_.reset();
      logits_ = product(hidden_.narrow(0, begin, count), head_);
    } else if (!logits_.defined()) {
      logits_ = at::empty({chunk_, vocab_}, hidden_.options());
    }
  }

  // `count` tokens from begin + row: logits, losses, gradients of logits and
  // of the tokens' hidden states.
  void token_block(i64 begin, i64 row, i64 count) {
    const i64 token = begin + row;
    at::Tensor logits = logits_.narrow(0, row, count);
    if (!onednn()) {
      at::mm_out(logits, hidden_.narrow(0, token, count), head_.t());
    }
    with_type(logits, [&]<class T>() {
      ops<T>().softmax_loss(data<T>(logits), const_data<i64>(targets_) + token,
                            data<float>(losses_) + token, wanted_.any(), count,
                            vocab_);
    });
    if (!wanted_.first) return;
    at::Tensor dhidden = dhidden_.narrow(0, token, count);
    if (onednn()) {
      dhidden.copy_(product(logits, head_.t()));
    } else {
      at::mm_out(dhidden, logits, head_);
    }
  }

  // dhead of `entries` vocabulary entries += the chunk's share.
  void vocab_block(i64 begin, i64 count, i64 entry, i64 entries) {
    const at::Tensor gradient =
        logits_.narrow(0, 0, count).narrow(1, entry, entries).t();
    const at::Tensor hidden = hidden_.narrow(0, begin, count);
    at::Tensor sum = dhead_.narrow(0, entry, entries);
    if (hidden.scalar_type() != at::kFloat) {
      const at::Tensor share = at::mm(gradient, hidden);
      begin == 0 ? sum.copy_(share) : sum.add_(share);
    } else if (begin == 0) {
      at::mm_out(sum, gradient, hidden);
    } else {
      at::addmm_out(sum, sum, gradient, hidden);
    }
  }

  Wanted wanted_;
  i64 tokens_, vocab_, chunk_;
  at::Tensor hidden_, head_, targets_, losses_, dhidden_, dhead_;
  at::Tensor logits_;  // of a chunk
};

LossAndGradients token_loss(const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets, at::ScalarType type,
                            Wanted wanted) {
  const PlainCalls plain;
  return ChunkedLoss(hidden, head, targets, type, wanted)
      .run(hidden.scalar_type(), head.scalar_type());
}

}  // namespace

const FusedDevice& fused_cpu() {
  static const FusedDevice device{rms_norm, rms_norm_backward, rope,
                                  swiglu,   swiglu_backward,   token_loss};
  return device;
}

}  // namespace dai::intro
