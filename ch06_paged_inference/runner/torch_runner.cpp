// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/runner/torch_runner.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/decoder/decoder.h"
#include "ch06_paged_inference/runner/paged_attention.h"
#include "common/torch/thread_pool.h"

namespace dai::paged {
namespace {

// A model's weights, read once for as many decoders as share them.
class FileWeights {
 public:
  FileWeights(const ModelFile& file, const intro::DecoderConfig& config,
              at::Device device)
      : table_(angles(file.config().rope_divisors, config, device)) {
    for (const intro::ParameterShape& p : config.parameters()) {
      const at::Tensor values = at::empty(p.shape, at::kFloat);
      file.read(p.name, {values.data_ptr<float>(),
                         static_cast<std::size_t>(values.numel())});
      tensors_[p.name] = values.to(device);
    }
  }
  const at::Tensor& at(const std::string& name) const {
    return tensors_.at(name);
  }
  const intro::RopeTable& table() const { return table_; }

 private:
  // As rope_table() has them, in float64, over the model's divisors.
  static intro::RopeTable angles(const std::vector<float>& divisors,
                                 const intro::DecoderConfig& config,
                                 at::Device device) {
    if (divisors.empty()) {
      return intro::rope_table(config.max_positions, config.head_dim(),
                               config.rope_theta, device);
    }
    const auto pairs = static_cast<std::int64_t>(divisors.size());
    const at::Tensor cos = at::empty({config.max_positions, pairs}, at::kFloat);
    const at::Tensor sin = at::empty({config.max_positions, pairs}, at::kFloat);
    for (std::int64_t at = 0; at < cos.numel(); ++at) {
      const std::int64_t i = at % pairs;
      const double angle =
          static_cast<double>(at / pairs) *
          std::pow(config.rope_theta,
                   -static_cast<double>(i) / static_cast<double>(pairs)) /
          divisors[static_cast<std::size_t>(i)];
      cos.data_ptr<float>()[at] = static_cast<float>(std::cos(angle));
      sin.data_ptr<float>()[at] = static_cast<float>(std::sin(angle));
    }
    return {cos.to(device), sin.to(device)};
  }

  intro::RopeTable table_;
  std::map<std::string, at::Tensor> tensors_;
};

// `Parts` with these weights.
template <class Parts>
class Loaded : public Parts {
 public:
  template <class... Args>
  explicit Loaded(const FileWeights& weights, Args&&... args)
      : Parts(std::forward<Args>(args)...), weights_(weights) {}
  at::Tensor parameter(const std::string& name) const override {
    return weights_.at(name);
  }
  intro::RopeTable rope_table() const override { return weights_.table(); }

 private:
  const FileWeights& weights_;
};

// No more positions than asked for, nor than the blocks can hold: what a file
// claims may be anything.
intro::DecoderConfig shortened(intro::DecoderConfig config,
                               const TorchRunnerOptions& options) {
  config.max_positions =
      std::min(config.max_positions, options.kv_blocks * options.block_size);
  if (options.max_positions > 0) {
    config.max_positions =
        std::min(config.max_positions, options.max_positions);
  }
  return config;
}

}  // namespace

struct TorchRunner::Model {
  Model(const ModelFile& file, const TorchRunnerOptions& o)
      : config(shortened(file.config().decoder, o)),
        options{.device = o.device},
        weights(file, config, o.device),
        kv(config, o.kv_blocks, o.block_size, o.kv_dtype, o.device),
        decoder(make<PagedParts>(kv)),
        naive(make<intro::DecoderParts>()) {}

  template <class Parts, class... Args>
  intro::Decoder make(Args&... args) const {
    Loaded<Parts> parts(weights, config, options, args...);
    return intro::Decoder(parts);
  }

  intro::DecoderConfig config;
  intro::DecoderPartsOptions options;
  FileWeights weights;
  PagedKv kv;
  intro::Decoder decoder, naive;  // of the same weights
};

TorchRunner::TorchRunner(const ModelFile& model,
                         const TorchRunnerOptions& options)
    : options_(options) {
  const at::NoGradGuard no_gradients;
  model_ = std::make_unique<Model>(model, options);
  release_thread_pool();  // steps are another thread's
}

TorchRunner::~TorchRunner() = default;

std::int64_t TorchRunner::vocab_size() const {
  return model_->config.vocab_size;
}

std::int64_t TorchRunner::max_positions() const {
  return model_->config.max_positions;
}

std::int64_t TorchRunner::kv_bytes() const {
  return model_->kv.bytes();
}

std::int64_t TorchRunner::context_per_token() const {
  const intro::DecoderConfig& c = model_->config;
  // Operations, and gathering for attention takes half as long again
  // (ch06_inference_bottleneck).
  const std::int64_t products =
      2 * (c.parameter_count() -
           (c.tied_embeddings ? 1 : 2) * c.vocab_size * c.hidden);
  const std::int64_t attention = 4 * c.layers * c.hidden;
  return std::max<std::int64_t>(1, products * 2 / (attention * 3));
}

std::int64_t TorchRunner::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : model_->decoder.parameters()) {
    bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  return bytes;
}

std::vector<float> TorchRunner::naive_logprobs(
    std::span<const std::int32_t> tokens, std::int64_t first) const {
  const at::NoGradGuard no_gradients;
  const std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
  const std::int64_t asked = std::ssize(ids) - first;
  if (first < 1 || asked < 1) return {};
  const at::Tensor all = at::tensor(ids, at::kLong).to(options_.device);
  const at::Tensor hidden = model_->naive.hidden_states(
      all.narrow(0, 0, all.size(0) - 1).unsqueeze(0))[0];
  const at::Tensor logits =
      model_->naive.project(hidden.narrow(0, first - 1, asked));
  const at::Tensor chosen =
      at::log_softmax(logits, -1)
          .gather(1, all.narrow(0, first, asked).unsqueeze(1))
          .flatten()
          .cpu();
  release_thread_pool();
  return {chosen.data_ptr<float>(), chosen.data_ptr<float>() + asked};
}

void TorchRunner::run(const StepPlan& plan, std::span<float> logits) {
  const at::NoGradGuard no_gradients;  // of this thread
  if (options_.one_row) {
    run_one_by_one(plan, logits);
  } else {
    run_together(plan, logits);
  }
}

void TorchRunner::run_together(const StepPlan& plan, std::span<float> logits) {
  model_->kv.begin_step(plan);
  std::vector<std::int64_t> tokens(plan.tokens.begin(), plan.tokens.end());
  std::vector<std::int64_t> positions, last;
  for (const PlanRow& row : plan.rows) {
    for (std::int64_t i = 0; i < row.count; ++i) {
      positions.push_back(row.position + i);
    }
    if (row.draws) last.push_back(row.first + row.count - 1);
  }
  const auto on_device = [&](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).to(options_.device);
  };
  const at::Tensor hidden = model_->decoder.hidden_states_at(
      on_device(tokens).unsqueeze(0), on_device(positions));
  if (last.empty()) return;
  const at::Tensor out =
      model_->decoder.project(hidden[0].index_select(0, on_device(last)));
  at::from_blob(logits.data(), out.sizes(), at::kFloat).copy_(out);
}

void TorchRunner::run_one_by_one(const StepPlan& plan,
                                 std::span<float> logits) {
  const auto vocab = static_cast<std::size_t>(vocab_size());
  StepPlan one;
  one.block_size = plan.block_size;
  one.copies = plan.copies;  // with the first token, before anything is read
  one.block_tables = plan.block_tables;
  std::size_t drawn = 0;
  for (const PlanRow& row : plan.rows) {
    for (std::int64_t i = 0; i < row.count; ++i) {
      PlanRow token = row;
      token.first = 0;
      token.count = 1;
      token.position = row.position + i;
      token.blocks = (token.context() + plan.block_size - 1) / plan.block_size;
      token.draws = row.draws && i + 1 == row.count;
      one.rows = {token};
      one.tokens = {plan.tokens[static_cast<std::size_t>(row.first + i)]};
      run_together(one, token.draws ? logits.subspan(vocab * drawn, vocab)
                                    : std::span<float>());
      one.copies.clear();
    }
    drawn += row.draws ? 1 : 0;
  }
}

}  // namespace dai::paged
