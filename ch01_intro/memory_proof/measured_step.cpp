// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/measured_step.h"

#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/memory/memory_ledger.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch01_intro/workloads/kv_cache.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;

const DecoderOps& ops_of(Rung rung) {
  return rung == Rung::kFused ? fused_ops() : naive_ops();
}

// One microbatch of drawn tokens a step.
class DrawnTokens : public TrainingTask {
 public:
  DrawnTokens(const Decoder& decoder, const PlanSetup& setup,
              std::uint64_t seed, at::Device device)
      : decoder_(decoder), seed_(seed) {
    const auto like = at::TensorOptions(at::kLong).device(device);
    inputs = at::empty({setup.batch, setup.seq}, like);
    targets = at::empty({setup.batch, setup.seq}, like);
  }
  std::int64_t tokens_in_step(std::int64_t) override { return inputs.numel(); }
  void load(std::int64_t step, std::int64_t) override {
    draw(inputs, stream_key(seed_, "inputs") + step);
    draw(targets, stream_key(seed_, "targets") + step);
  }
  TokenLoss loss() override {
    return {decoder_.loss(inputs, targets), targets.numel()};
  }

  at::Tensor inputs, targets;

 private:
  void draw(at::Tensor& tokens, std::uint64_t key) const {
    const at::Tensor host =
        tokens.is_cpu() ? tokens : at::empty(tokens.sizes(), at::kLong);
    const std::span<std::int64_t> ids(host.data_ptr<std::int64_t>(),
                                      static_cast<std::size_t>(host.numel()));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int64_t>(
          mix64(key ^ mix64(i)) %
          static_cast<std::uint64_t>(decoder_.config().vocab_size));
    }
    if (!tokens.is_cpu()) tokens.copy_(host);
  }

  const Decoder& decoder_;
  std::uint64_t seed_;
};

// The caching allocator's counters at each change of phase, which the trainer
// announces through the hooks of its GradientSync.
class DeviceProbe : public GradientSync {
 public:
  DeviceProbe(GradientSync& inner, at::Device device)
      : inner_(inner),
        device_(device),
        allocator_(*c10::getDeviceAllocator(device.type())) {}

  void begin_step() override {
    inner_.begin_step();
    phases.clear();
  }
  void before_forward(const Microbatch& microbatch) override {
    inner_.before_forward(microbatch);
    before_forward_bytes = live();
    allocator_.resetPeakStats(device_.index());
  }
  void before_backward(const Microbatch& microbatch,
                       const at::Tensor& loss) override {
    end_phase("forward");
    inner_.before_backward(microbatch, loss);
  }
  void after_backward(const Microbatch& microbatch) override {
    end_phase("backward");
    inner_.after_backward(microbatch);
  }
  SyncTimes finish_step() override {
    const SyncTimes times = inner_.finish_step();
    end_phase("sync");
    return times;
  }
  void end_phase(const char* name) {
    const auto bytes = requested();
    phases.push_back({name, bytes.current, bytes.peak});
    allocator_.resetPeakStats(device_.index());
  }
  std::int64_t live() const { return requested().current; }

  std::vector<MeasuredStep::Phase> phases;
  std::int64_t before_forward_bytes = 0;

 private:
  c10::CachingAllocator::Stat requested() const {
    constexpr auto kAll =
        static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return allocator_.getDeviceStats(device_.index()).requested_bytes[kAll];
  }

  GradientSync& inner_;
  at::Device device_;
  c10::DeviceAllocator& allocator_;
};

using Visit = std::function<void(const at::Tensor&, C)>;

void visit_states(const Decoder& decoder, const DrawnTokens& tokens,
                  const Trainer& trainer, const Visit& visit) {
  for (const NamedParameter& parameter : decoder.parameters()) {
    visit(parameter.tensor, C::kParameters);
    visit(parameter.tensor.grad(), C::kGradients);
  }
  for (const AdamW::State& state : trainer.optimizer().states()) {
    for (const at::Tensor& tensor : {state.m, state.v, state.step}) {
      visit(tensor, C::kOptimizer);
    }
  }
  for (const at::Tensor& tensor : {decoder.table().cos, decoder.table().sin,
                                   tokens.inputs, tokens.targets}) {
    visit(tensor, C::kBuffers);
  }
}

void read_ledger(const MemoryLedger& ledger, MeasuredStep& measured) {
  measured.report = ledger.report(/*points=*/100);
  const auto& phases = measured.report.phases;
  const auto last_forward = std::find_if(
      phases.rbegin(), phases.rend(),
      [](const MemoryReport::Phase& phase) { return phase.name == "forward"; });
  measured.activations = last_forward->at_end[C::kActivations];
  for (auto phase = last_forward.base() - 1; phase != phases.end(); ++phase) {
    measured.phases.push_back(
        {phase->name, phase->at_end.total(), phase->peak.total()});
  }
  for (const C category :
       {C::kParameters, C::kGradients, C::kOptimizer, C::kBuffers}) {
    measured.states[category] = measured.report.at_end[category];
  }
}

}  // namespace

const MeasuredStep::Phase& MeasuredStep::peak() const {
  return *std::max_element(phases.begin(), phases.end(),
                           [](const Phase& a, const Phase& b) {
                             return a.peak_bytes < b.peak_bytes;
                           });
}

MeasuredStep measure_steps(const PlanSetup& setup, std::int64_t steps,
                           std::uint64_t seed, at::Device device) {
  setup.check();
  MeasuredStep measured;
  std::optional<MemoryLedger> ledger;
  if (device.is_cpu()) ledger.emplace();

  DecoderParts parts(
      setup.config,
      {.seed = seed, .device = device, .ops = &ops_of(setup.rung)});
  const Decoder decoder(parts);
  DrawnTokens tokens(decoder, setup, seed, device);
  WholeParameters view(decoder.parameters());
  NaiveDdp sync(decoder.parameters(), /*microbatches=*/1, nullptr);
  std::optional<DeviceProbe> probe;
  if (!device.is_cpu()) probe.emplace(sync, device);
  GradientSync& watched = probe ? static_cast<GradientSync&>(*probe) : sync;
  const TrainerOptions options{
      .microbatches = 1,
      .precision = setup.bf16 ? Precision::kBf16 : Precision::kFp32};
  Trainer trainer(tokens, watched, view, nullptr, options, device,
                  ledger ? &*ledger : nullptr);

  const auto live = [&] {
    return ledger ? ledger->live_bytes() : probe->live();
  };
  const Visit claim = [&](const at::Tensor& tensor, C category) {
    if (ledger) ledger->claim(tensor, category);
  };
  for (std::int64_t i = 0; i < std::max<std::int64_t>(steps, 2); ++i) {
    trainer.step();
    if (probe) probe->end_phase("optimizer");
    // Each step's gradients are new ones.
    visit_states(decoder, tokens, trainer, claim);
    measured.after_step.push_back(live());
  }
  if (ledger) {
    read_ledger(*ledger, measured);
  } else {
    measured.phases = probe->phases;
    measured.activations =
        probe->phases.front().end_bytes - probe->before_forward_bytes;
    // The fused loss has made the head's gradient by then: no activation.
    if (setup.rung == Rung::kFused) {
      const auto& parameters = decoder.parameters();
      const NamedParameter& head =
          setup.config.tied_embeddings ? parameters.front() : parameters.back();
      measured.activations -= static_cast<std::int64_t>(head.tensor.nbytes());
    }
    visit_states(decoder, tokens, trainer,
                 [&](const at::Tensor& tensor, C category) {
                   measured.states[category] +=
                       static_cast<std::int64_t>(tensor.storage().nbytes());
                 });
  }
  measured.unexplained = live() - measured.states.total();
  return measured;
}

std::int64_t measure_kv_cache(const DecoderConfig& config, std::int64_t batch,
                              std::int64_t positions) {
  const MemoryLedger ledger;
  const KvCache cache(config, batch, positions, at::kCPU);
  return ledger.live_bytes();
}

}  // namespace dai::intro
