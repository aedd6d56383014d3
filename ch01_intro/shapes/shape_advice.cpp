// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/shapes/shape_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kTokensMultiple = 64;
// Below this a new microbatch is not worth a new learning rate.
constexpr double kWorthwhileGain = 0.03;

void check(const ShapeQuestion& question) {
  question.model.check();
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"batch", question.batch},
      {"sequence", question.sequence},
      {"tensor parallel", question.tensor_parallel},
      {"bytes of an element", question.element_bytes}};
  for (const auto& [name, value] : sizes) {
    if (value < 1) {
      throw UsageError(fmt::format("{} {}, at least 1", name, value));
    }
  }
}

class Advisor {
 public:
  Advisor(const ShapeQuestion& question, const GpuModel& gpu)
      : gpu_(gpu), now_(question), alignment_(question.alignment(gpu)) {
    result_.advised = question;
    result_.efficiency_now = efficiency(forward_matmuls(question), gpu);
  }

  ShapeAdvice run() {
    vocabulary();
    ffn();
    hidden();
    head_size();
    parallel();
    tokens();
    result_.efficiency_advised =
        efficiency(forward_matmuls(result_.advised), gpu_);
    return std::move(result_);
  }

 private:
  // Changes one thing in the advised question and says what that gains by
  // itself: useful work of the model as it now is, in less waste.
  void change(const std::string& dimension, std::int64_t ShapeQuestion::* size,
              std::int64_t value, const std::string& why) {
    set(dimension, now_.*size, value, why,
        [&](ShapeQuestion& question) { question.*size = value; });
  }
  void change(const std::string& dimension, std::int64_t DecoderConfig::* size,
              std::int64_t value, const std::string& why) {
    set(dimension, now_.model.*size, value, why,
        [&](ShapeQuestion& question) { question.model.*size = value; });
  }

  template <class Change>
  void set(const std::string& dimension, std::int64_t now, std::int64_t value,
           const std::string& why, const Change& make) {
    ShapeQuestion alone = now_;
    make(alone);
    make(result_.advised);
    result_.rows.push_back(
        {.dimension = dimension,
         .now = std::to_string(now),
         .advised = std::to_string(value),
         .why = why,
         .predicted_gain =
             efficiency(forward_matmuls(alone), gpu_) / result_.efficiency_now -
             1,
         .changes = now != value});
  }

  // What only the reader can decide.
  void note(const std::string& dimension, const std::string& now,
            const std::string& advised, const std::string& why,
            bool must = false) {
    result_.rows.push_back({.dimension = dimension,
                            .now = now,
                            .advised = advised,
                            .why = why,
                            .changes = now != advised,
                            .must = must});
  }

  void vocabulary() {
    const std::int64_t t = now_.tensor_parallel;
    const std::int64_t vocabulary = now_.model.vocab_size;
    const std::int64_t multiple = std::max<std::int64_t>(64, alignment_);
    const std::int64_t padded = padded_vocabulary(vocabulary, multiple, t);
    change("vocabulary", &DecoderConfig::vocab_size, padded,
           padded == vocabulary
               ? fmt::format("a multiple of {} x t", multiple)
               : fmt::format("up to a multiple of {} x t; 50257 -> 50304 was "
                             "reported as 25 % faster steps",
                             multiple));
  }

  void ffn() {
    const std::int64_t padded =
        padded_ffn(now_.model.ffn, alignment_, now_.tensor_parallel);
    change("ffn", &DecoderConfig::ffn, padded,
           padded == now_.model.ffn
               ? fmt::format("a multiple of {} x t", alignment_)
               : fmt::format("up to a multiple of {} x t; 10922 -> 10944 was "
                             "measured as 46 % faster products on H100",
                             alignment_));
  }

  void hidden() {
    const std::int64_t h = now_.model.hidden, t = now_.tensor_parallel;
    const bool fine = h % (alignment_ * t) == 0;
    note("hidden / t", fmt::format("{} / {}", h, t),
         fine ? fmt::format("{} / {}", h, t)
              : fmt::format("{} / {}", round_up(h, alignment_ * t), t),
         fine ? fmt::format("divisible by {}, a power of two",
                            power_of_two_in(h / t))
              : fmt::format("a multiple of {} fills every load of a row",
                            alignment_));
  }

  // Another number of heads gives another model with as many parameters.
  void head_size() {
    const std::int64_t h = now_.model.hidden, size = now_.model.head_dim();
    if (size == 64 || size == 128) {
      note("head size", std::to_string(size), std::to_string(size),
           "attention kernels are written for it");
      return;
    }
    for (const std::int64_t wanted : {128, 64}) {
      const std::int64_t heads = h / wanted;
      if (h % wanted == 0 && heads % now_.tensor_parallel == 0) {
        note("head size", std::to_string(size), std::to_string(wanted),
             fmt::format("{} heads instead of {}: same parameters, "
                         "{} in h / a",
                         heads, now_.model.heads, wanted));
        return;
      }
    }
    note("head size", std::to_string(size), std::to_string(round_up(size, 8)),
         size % 8 == 0 ? "a multiple of 8; hidden allows neither 64 nor 128"
                       : "a multiple of 8, or tensor cores stand still");
  }

  void parallel() {
    const std::int64_t t = now_.tensor_parallel;
    if (t == 1) return;
    const std::pair<const char*, std::int64_t> sizes[] = {
        {"heads / t", now_.model.heads}, {"KV heads / t", now_.model.kv_heads}};
    for (const auto& [name, size] : sizes) {
      const std::string now = fmt::format("{} / {}", size, t);
      if (size % t == 0) {
        note(name, now, now, "whole heads on every rank");
      } else {
        std::int64_t fits = t;
        while (size % fits != 0) --fits;
        note(name, now, fmt::format("{} / {}", size, fits),
             "a rank cannot hold part of a head", true);
      }
    }
    const std::int64_t both = now_.batch * now_.model.heads;
    const std::string now =
        fmt::format("{} x {} / {}", now_.batch, now_.model.heads, t);
    if (both % t == 0) note("(b a) / t", now, now, "a whole number");
  }

  void tokens() {
    const std::int64_t tokens = now_.batch * now_.sequence;
    const std::int64_t power = power_of_two_in(tokens);
    note("b s", std::to_string(tokens),
         std::to_string(round_up(tokens, kTokensMultiple)),
         power >= kTokensMultiple
             ? fmt::format("divisible by {}, a power of two", power)
             : fmt::format("a multiple of {}", kTokensMultiple));
    // Which microbatch, at most twice as large, fills the last wave best?
    ShapeQuestion best = result_.advised, next = best;
    double best_efficiency = efficiency(forward_matmuls(best), gpu_);
    const double start = best_efficiency;
    for (next.batch = now_.batch + 1; next.batch <= 2 * now_.batch;
         ++next.batch) {
      const double e = efficiency(forward_matmuls(next), gpu_);
      if (e > best_efficiency) {
        best_efficiency = e;
        best = next;
      }
    }
    const bool worth = best_efficiency > (1 + kWorthwhileGain) * start;
    change("microbatch", &ShapeQuestion::batch, worth ? best.batch : now_.batch,
           worth ? "fuller waves of tiles; as large as memory allows"
                 : "no larger one up to twice it fills waves 3 % better");
  }

  const GpuModel& gpu_;
  const ShapeQuestion now_;
  const std::int64_t alignment_;
  ShapeAdvice result_;
};

}  // namespace

std::int64_t padded_vocabulary(std::int64_t vocabulary, std::int64_t multiple,
                               std::int64_t tensor_parallel) {
  return round_up(vocabulary, multiple * tensor_parallel);
}

std::int64_t padded_ffn(std::int64_t ffn, std::int64_t alignment,
                        std::int64_t tensor_parallel) {
  return round_up(ffn, alignment * tensor_parallel);
}

std::vector<MatmulDims> forward_matmuls(const ShapeQuestion& question) {
  const DecoderConfig& model = question.model;
  const std::int64_t tokens = question.batch * question.sequence;
  const auto part = [&](std::int64_t size) {
    return ceil_div(size, question.tensor_parallel);
  };
  const std::int64_t h = model.hidden;
  const std::int64_t kv = model.kv_heads * model.head_dim();
  const auto matmul = [&](const char* name, std::int64_t n, std::int64_t k,
                          std::int64_t count) {
    return MatmulDims{
        .name = name, .m = tokens, .n = n, .k = k, .count = count};
  };
  return {matmul("q_proj", part(h), h, model.layers),
          matmul("k_proj", part(kv), h, model.layers),
          matmul("v_proj", part(kv), h, model.layers),
          matmul("o_proj", h, part(h), model.layers),
          matmul("gate_proj", part(model.ffn), h, model.layers),
          matmul("up_proj", part(model.ffn), h, model.layers),
          matmul("down_proj", h, part(model.ffn), model.layers),
          matmul("lm_head", part(model.vocab_size), h, 1)};
}

ShapeAdvice advise(const ShapeQuestion& question, const GpuModel& gpu) {
  check(question);
  return Advisor(question, gpu).run();
}

}  // namespace dai::intro
