// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/baseline/reference_case.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/trainer.h"
#include "common/embedded.h"
#include "common/errors.h"

DAI_EMBEDDED(reference_nano_json);

namespace dai::intro {
namespace {

using nlohmann::json;

constexpr std::int64_t kProbes = 64;

// Windows in the order of the text, as reference_run.py's microbatch().
class ReferenceTask : public TrainingTask {
 public:
  ReferenceTask(const json& reference, const Decoder& decoder,
                at::Device device)
      : decoder_(decoder),
        device_(device),
        text_(reference.at("text").get<std::string>()),
        microbatches_(reference.at("microbatches")),
        samples_(reference.at("samples")),
        window_(reference.at("window")) {}

  std::int64_t tokens_in_step(std::int64_t) override {
    return microbatches_ * samples_ * window_;
  }
  void load(std::int64_t step, std::int64_t id) override {
    const std::int64_t first = (step * microbatches_ + id) * samples_ * window_;
    inputs_ = tokens_from(first).to(device_);
    targets_ = tokens_from(first + 1).to(device_);
  }
  TokenLoss loss() override {
    return {decoder_.loss(inputs_, targets_), targets_.numel()};
  }

 private:
  at::Tensor tokens_from(std::int64_t first) const {
    at::Tensor ids = at::empty({samples_, window_}, at::kLong);
    for (std::int64_t i = 0; i < ids.numel(); ++i) {
      ids.data_ptr<std::int64_t>()[i] = static_cast<unsigned char>(
          text_.at(static_cast<std::size_t>(first + i)));
    }
    return ids;
  }

  const Decoder& decoder_;
  at::Device device_;
  std::string text_;
  std::int64_t microbatches_, samples_, window_;
  at::Tensor inputs_, targets_;
};

// Infinite where a number is NaN, so that no tolerance lets it pass.
double error(double ours, double theirs, double scale) {
  const double difference = std::abs(ours - theirs) / scale;
  return difference >= 0 ? difference : std::numeric_limits<double>::infinity();
}

// Keeps the gradients as they are when the step is done but not yet clipped:
// the view is asked for its norm at that moment.
class WatchedParameters : public WholeParameters {
 public:
  using WholeParameters::WholeParameters;
  at::Tensor squared_norm_blocks() override {
    if (gradients.empty()) {
      for (const ParameterSlice& slice : slices()) {
        gradients.push_back({slice.name, slice.grad.detach().cpu().clone()});
      }
    }
    return WholeParameters::squared_norm_blocks();
  }
  std::vector<NamedParameter> gradients;  // of the first step
};

double gradient_error(const at::Tensor& ours, const json& theirs) {
  const double scale = theirs.at("max");
  const at::Tensor flat = ours.flatten().to(at::kDouble).contiguous();
  const double* values = flat.const_data_ptr<double>();
  double worst = std::max(
      error(flat.abs().max().item<double>(), scale, scale),
      error(flat.norm().item<double>(), theirs.at("norm"), theirs.at("norm")));
  const std::uint64_t key =
      stream_key(1234, "probe." + theirs.at("name").get<std::string>());
  const json& probes = theirs.at("values");
  for (std::int64_t i = 0; i < kProbes; ++i) {
    const std::uint64_t element = mix64(key ^ mix64(i)) % flat.numel();
    worst = std::max(worst, error(values[element], probes.at(i), scale));
  }
  return worst;
}

// The named decoder with the layers and key-value heads of the case; whatever
// else the case states must be the decoder's.
DecoderConfig config_of(const json& reference, const json& stated) {
  DecoderConfig config = decoder_config(reference.at("decoder"));
  config.layers = stated.at("layers");
  config.kv_heads = stated.at("kv_heads");
  const std::pair<const char*, double> sizes[] = {
      {"vocab_size", config.vocab_size}, {"hidden", config.hidden},
      {"heads", config.heads},           {"ffn", config.ffn},
      {"rope_theta", config.rope_theta}, {"norm_eps", config.norm_eps}};
  for (const auto& [key, size] : sizes) {
    if (stated.at(key).get<double>() != size) {
      throw UsageError(fmt::format(
          "reference_nano.json was made with {} {}, decoder {} has {}: run "
          "ch01_intro/peers/reference_run.py again",
          key, stated.at(key).get<double>(), config.name, size));
    }
  }
  return config;
}

void compare_gradients(const std::vector<NamedParameter>& ours,
                       const json& theirs, ReferenceComparison& result) {
  if (theirs.size() != ours.size()) {
    throw UsageError(
        fmt::format("reference_nano.json has {} gradients, the decoder {}",
                    theirs.size(), ours.size()));
  }
  for (const NamedParameter& gradient : ours) {
    const auto row = std::find_if(
        theirs.begin(), theirs.end(),
        [&](const json& r) { return r.at("name") == gradient.name; });
    if (row == theirs.end()) {
      throw UsageError("reference_nano.json has no gradient of " +
                       gradient.name);
    }
    const double worst = gradient_error(gradient.tensor, *row);
    if (worst >= result.gradient_error) {
      result.gradient_error = worst;
      result.worst_gradient = gradient.name;
    }
    ++result.gradients;
  }
}

ReferenceComparison compare(const json& reference, const json& theirs,
                            const DecoderOps& ops, at::Device device) {
  DecoderParts parts(
      config_of(reference, theirs.at("config")),
      {.seed = reference.at("seed"), .device = device, .ops = &ops});
  const Decoder decoder(parts);
  ReferenceTask task(reference, decoder, device);
  const TrainerOptions options{
      .microbatches = reference.at("microbatches"),
      .schedule = {.peak = reference.at("peak"),
                   .warmup_steps = reference.at("warmup"),
                   .total_steps = reference.at("steps"),
                   .floor_fraction = reference.at("floor_fraction")},
      .clip_norm = reference.at("clip")};
  NaiveDdp sync(decoder.parameters(), options.microbatches, nullptr);
  WatchedParameters view(decoder.parameters());
  Trainer trainer(task, sync, view, nullptr, options, device);

  ReferenceComparison result;
  result.name = decoder.config().name;
  result.layers = decoder.config().layers;
  result.heads = decoder.config().heads;
  result.kv_heads = decoder.config().kv_heads;
  const json& losses = theirs.at("losses");
  const json& norms = theirs.at("gradient_norms");
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const StepResult ours = trainer.step();
    result.losses.push_back(ours.loss);
    result.reference_losses.push_back(losses.at(step));
    result.loss_error = std::max(
        result.loss_error, error(ours.loss, losses.at(step), losses.at(step)));
    result.norm_error =
        std::max(result.norm_error,
                 error(ours.gradient_norm, norms.at(step), norms.at(step)));
  }
  compare_gradients(view.gradients, theirs.at("step1_gradients"), result);
  return result;
}

}  // namespace

std::string ReferenceComparison::decoder() const {
  return fmt::format("{}, fp32, {} layers, {} heads over {}", name, layers,
                     heads, kv_heads);
}

std::string ReferenceComparison::to_string() const {
  return fmt::format(
      "against PyTorch in Python, {} steps of {}: {:.6f} to {:.6f}, theirs "
      "{:.6f} to {:.6f}\n",
      losses.size(), decoder(), losses.front(), losses.back(),
      reference_losses.front(), reference_losses.back());
}

std::vector<ReferenceComparison> compare_with_reference(const DecoderOps& ops,
                                                        at::Device device) {
  const json reference = json::parse(embedded_reference_nano_json());
  std::vector<ReferenceComparison> results;
  for (const json& theirs : reference.at("cases")) {
    results.push_back(compare(reference, theirs, ops, device));
  }
  return results;
}

}  // namespace dai::intro
