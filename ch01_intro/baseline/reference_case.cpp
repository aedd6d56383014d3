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

void check_config(const json& theirs, const DecoderConfig& ours) {
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"vocab_size", ours.vocab_size}, {"hidden", ours.hidden},
      {"layers", ours.layers},         {"heads", ours.heads},
      {"kv_heads", ours.kv_heads},     {"ffn", ours.ffn}};
  for (const auto& [key, size] : sizes) {
    if (theirs.at(key) != size) {
      throw UsageError(fmt::format(
          "reference_nano.json was made with {} {}, decoder {} has {}: run "
          "ch01_intro/peers/reference_run.py again",
          key, theirs.at(key).get<std::int64_t>(), ours.name, size));
    }
  }
}

}  // namespace

ReferenceComparison compare_with_reference(const DecoderOps& ops,
                                           at::Device device) {
  const json reference = json::parse(embedded_reference_nano_json());
  DecoderParts parts(
      decoder_config(reference.at("config").at("name")),
      {.seed = reference.at("seed"), .device = device, .ops = &ops});
  check_config(reference.at("config"), parts.config());
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
  result.reference_losses = reference.at("losses").get<std::vector<double>>();
  for (const double theirs : result.reference_losses) {
    const double ours = trainer.step().loss;
    result.losses.push_back(ours);
    result.loss_error =
        std::max(result.loss_error, error(ours, theirs, theirs));
  }
  const json& gradients = reference.at("step1_gradients");
  if (gradients.size() != view.gradients.size()) {
    throw UsageError(
        fmt::format("reference_nano.json has {} gradients, the "
                    "decoder {}",
                    gradients.size(), view.gradients.size()));
  }
  for (const NamedParameter& ours : view.gradients) {
    const auto theirs = std::find_if(
        gradients.begin(), gradients.end(),
        [&](const json& row) { return row.at("name") == ours.name; });
    if (theirs == gradients.end()) {
      throw UsageError("reference_nano.json has no gradient of " + ours.name);
    }
    const double worst = gradient_error(ours.tensor, *theirs);
    if (worst >= result.gradient_error) {
      result.gradient_error = worst;
      result.worst_gradient = ours.name;
    }
    ++result.gradients;
  }
  return result;
}

}  // namespace dai::intro
