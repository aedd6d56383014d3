// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/watched_training.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ch01_intro/bottleneck/byte_stream.h"
#include "ch01_intro/bottleneck/link_probe.h"
#include "ch01_intro/bottleneck/machine_probe.h"
#include "ch01_intro/bottleneck/resource_meter.h"
#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/tokenizer/text_corpus.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

constexpr std::int64_t kByteValues = 256;
constexpr std::int64_t kTextBytes = std::int64_t{2} << 20;

// Samples as they come out of a stream, of which each is read once: what they
// are is up to the writer, not to (step, id).
class StreamTask : public TrainingTask {
 public:
  StreamTask(const Decoder& decoder, const WatchedJobOptions& options,
             ProcessGroup& group)
      : decoder_(decoder),
        options_(options),
        stream_(options.input, group.rank(), group.size(),
                options.input_timeout_s),
        record_(
            static_cast<std::size_t>(options.samples * (options.window + 1))),
        inputs_(at::empty({options.samples, options.window}, at::kLong)),
        targets_(at::empty_like(inputs_)) {}

  std::int64_t tokens_in_step(std::int64_t) override {
    return options_.microbatches * options_.samples * options_.window;
  }
  void load(std::int64_t, std::int64_t) override {
    stream_.read(record_);
    auto* inputs = inputs_.data_ptr<std::int64_t>();
    auto* targets = targets_.data_ptr<std::int64_t>();
    const unsigned char* byte = record_.data();
    for (std::int64_t sample = 0; sample < options_.samples; ++sample, ++byte) {
      for (std::int64_t i = 0; i < options_.window; ++i, ++byte) {
        *inputs++ = byte[0];
        *targets++ = byte[1];
      }
    }
  }
  TokenLoss loss() override {
    return {decoder_.loss(inputs_, targets_), targets_.numel()};
  }

 private:
  const Decoder& decoder_;
  WatchedJobOptions options_;
  ByteStream stream_;
  std::vector<unsigned char> record_;
  at::Tensor inputs_, targets_;
};

struct Meters {
  ResourceUse data, compute, sync;
};

class MeteredTask : public TrainingTask {
 public:
  MeteredTask(TrainingTask& task, Meters& meters)
      : task_(task), meters_(meters) {}
  std::int64_t tokens_in_step(std::int64_t step) override {
    return task_.tokens_in_step(step);
  }
  void load(std::int64_t step, std::int64_t id) override {
    const ResourceUse before = resource_use();
    task_.load(step, id);
    meters_.data += resource_use() - before;
  }
  TokenLoss loss() override { return task_.loss(); }

 private:
  TrainingTask& task_;
  Meters& meters_;
};

class MeteredSync : public GradientSync {
 public:
  MeteredSync(GradientSync& sync, Meters& meters)
      : sync_(sync), meters_(meters) {}
  void begin_step() override { sync_.begin_step(); }
  void before_forward(const Microbatch& microbatch) override {
    before_ = resource_use();
    sync_.before_forward(microbatch);
  }
  void before_backward(const Microbatch& microbatch,
                       const at::Tensor& loss) override {
    sync_.before_backward(microbatch, loss);
  }
  void after_backward(const Microbatch& microbatch) override {
    meters_.compute += resource_use() - before_;
    sync_.after_backward(microbatch);
  }
  SyncTimes finish_step() override {
    const ResourceUse before = resource_use();
    const SyncTimes times = sync_.finish_step();
    meters_.sync += resource_use() - before;
    return times;
  }

 private:
  GradientSync& sync_;
  Meters& meters_;
  ResourceUse before_;
};

DecoderConfig checked(const WatchedJobOptions& options, ProcessGroup& group) {
  const DecoderConfig config = decoder_config(options.decoder);
  if (!group.device().is_cpu()) {
    throw UsageError(
        "the verdict rests on CPU times: --device cpu is expected");
  }
  if (config.vocab_size <= kByteValues) {
    throw UsageError(
        fmt::format("decoder {}: a vocabulary of {}, bytes and the "
                    "end of a text need {}",
                    config.name, config.vocab_size, kByteValues + 1));
  }
  if (options.samples < 1 || options.window < 1 ||
      options.window > config.max_positions) {
    throw UsageError(fmt::format(
        "{} samples of {} tokens: at least 1 of each, and decoder {} has {} "
        "positions",
        options.samples, options.window, config.name, config.max_positions));
  }
  return config;
}

TrainerOptions trainer_options(const WatchedJobOptions& options) {
  // A job without an end: the rate stays where the warm-up took it.
  return {.microbatches = options.microbatches,
          .schedule = {
              .peak = 1e-3, .warmup_steps = 5, .total_steps = 1'000'000'000}};
}

}  // namespace

std::string WatchedJobOptions::to_string() const {
  return fmt::format(
      "decoder={} microbatches={} samples={} window={} input={} seed={}",
      decoder, microbatches, samples, window, input, seed);
}

struct WatchedTraining::Job {
  Job(const WatchedJobOptions& options, ProcessGroup& ranks)
      : group(ranks),
        config(checked(options, ranks)),
        parts(config, {.seed = options.seed}),
        decoder(parts),
        source(make_source(options)),
        task(*source, meters),
        ddp(decoder.parameters(), options.microbatches, group_or_null()),
        sync(ddp, meters),
        view(decoder.parameters()),
        trainer(task, sync, view, group_or_null(), trainer_options(options),
                at::kCPU) {}

  ProcessGroup* group_or_null() { return group.size() > 1 ? &group : nullptr; }

  std::unique_ptr<TrainingTask> make_source(const WatchedJobOptions& options) {
    if (!options.input.empty()) {
      return std::make_unique<StreamTask>(decoder, options, group);
    }
    corpus = std::make_unique<TokenCorpus>(
        load_text_corpus({.text = "",
                          .text_bytes = kTextBytes,
                          .vocab_size = kByteValues + 1,  // nothing to merge
                          .window = options.window,
                          .seed = options.seed},
                         options.cache_folder));
    return std::make_unique<LanguageTask>(
        decoder, *corpus,
        LanguageTaskOptions{.microbatches = options.microbatches,
                            .samples = options.samples},
        at::kCPU);
  }

  Measures step() {
    meters = {};
    const NodeUse node = node_use();
    const ResourceUse before = resource_use();
    const StepResult result = trainer.step();
    const ResourceUse whole = resource_use() - before;
    const double busy = busy_share(node, node_use());
    if (trainer.steps_done() == 1) first_loss = result.loss;
    last_loss = result.loss;

    Measures m = no_measures();
    m[kStepMs] = total_ms(result.ms);
    m[kDataMs] = result.ms[kData];
    m[kForwardMs] = result.ms[kForward];
    m[kBackwardMs] = result.ms[kBackward];
    m[kOptimizerMs] = result.ms[kOptimizer];
    m[kLoopMs] = std::max(0.0, result.ms[kAdd] + result.ms[kOther]);
    m[kWaitMs] = result.ms[kWait];
    m[kWireMs] = result.ms[kWire];
    m[kComputeCpuMs] = whole.cpu_ms - meters.data.cpu_ms - meters.sync.cpu_ms;
    m[kStarvedMs] =
        std::max(0.0, meters.compute.wall_ms - meters.compute.cpu_ms);
    m[kRunDelayMs] = meters.compute.run_delay_ms;
    m[kVoluntarySwitches] = whole.voluntary_switches;
    m[kInvoluntarySwitches] = whole.involuntary_switches;
    m[kNodeBusyShare] = busy;
    const MachineProbe::Reading machine = probe.read();
    m[kFmaUs] = machine.fma_us;
    m[kRandomNs] = machine.random_read_ns;
    m[kStreamUs] = machine.stream_us_per_mb;
    const LinkReading link = probe_link(group);
    m[kPingUs] = link.ping_us;
    m[kLinkUs] = link.us_per_mb;
    if (group.size() > 1) group.barrier();  // the next step begins together
    return m;
  }

  ProcessGroup& group;
  DecoderConfig config;
  DecoderParts parts;
  Decoder decoder;
  Meters meters;
  std::unique_ptr<TokenCorpus> corpus;
  std::unique_ptr<TrainingTask> source;
  MeteredTask task;
  NaiveDdp ddp;
  MeteredSync sync;
  WholeParameters view;
  Trainer trainer;
  MachineProbe probe;
  double first_loss = 0, last_loss = 0;
};

WatchedTraining::WatchedTraining(const WatchedJobOptions& options,
                                 ProcessGroup& group)
    : job_(std::make_unique<Job>(options, group)) {}

WatchedTraining::~WatchedTraining() = default;

JobEvidence WatchedTraining::observe(std::int64_t steps) {
  ProcessGroup& group = job_->group;
  const at::Tensor mine = at::empty({steps, kMeasures}, at::kDouble);
  for (std::int64_t step = 0; step < steps; ++step) {
    const Measures measures = job_->step();
    std::copy(measures.begin(), measures.end(),
              mine.data_ptr<double>() + step * kMeasures);
  }
  // [ranks, steps, measures]
  const at::Tensor all =
      group.size() > 1 ? group.all_gather(mine) : mine.unsqueeze(0);
  const double* value = all.const_data_ptr<double>();
  JobEvidence job(static_cast<std::size_t>(steps),
                  StepEvidence(static_cast<std::size_t>(group.size())));
  for (std::size_t rank = 0; rank < job.front().size(); ++rank) {
    for (auto& step : job) {
      std::copy(value, value + kMeasures, step[rank].begin());
      value += kMeasures;
    }
  }
  return job;
}

double WatchedTraining::first_loss() const {
  return job_->first_loss;
}

double WatchedTraining::last_loss() const {
  return job_->last_loss;
}

std::int64_t WatchedTraining::skipped_updates() const {
  return job_->trainer.skipped_updates();
}

std::int64_t WatchedTraining::bits_off_rank0() {
  std::int64_t bits = 0;
  for (const NamedParameter& parameter : job_->decoder.parameters()) {
    at::Tensor rank0 = parameter.tensor.detach().clone();
    if (job_->group.size() > 1) job_->group.broadcast(rank0, 0);
    bits += differing_bits(parameter.tensor.detach(), rank0);
  }
  return bits;
}

}  // namespace dai::intro
