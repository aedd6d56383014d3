// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/patient/patient.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/named_parameter.h"
#include "ch03_ddp/buckets/unreached.h"
#include "ch03_ddp/doctor/model_watch.h"
#include "common/errors.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

struct FaultName {
  Fault fault;
  const char* name;
  const char* verdict;
};
constexpr FaultName kFaults[] = {
    {Fault::kNone, "none", ""},
    {Fault::kSkippedCall, "skipped-call", "skipped call"},
    {Fault::kExtraCall, "extra-call", "extra call"},
    {Fault::kSwappedOrder, "swapped-order", "swapped order"},
    {Fault::kShape, "shape", "shape"},
    {Fault::kDtype, "dtype", "dtype"},
    {Fault::kReduceOp, "reduce-op", "reduce operation"},
    {Fault::kRoot, "root", "root"},
    {Fault::kBranch, "branch", "rank-dependent branch"},
    {Fault::kInputsExhausted, "inputs-exhausted", "inputs exhausted"},
    {Fault::kProcessDead, "process-dead", "process dead"},
    {Fault::kProcessStopped, "process-stopped", "process stopped"},
    {Fault::kRankAbsent, "rank-absent", "rank absent"},
    {Fault::kSlowRank, "slow-rank", "slow rank"},
    {Fault::kUnusedParameter, "unused-parameter", "unused parameter"},
    {Fault::kDrift, "drift", "parameter drift"},
    {Fault::kInitialisation, "initialisation", "different initialisation"},
    {Fault::kOverlappingData, "overlapping-data", "overlapping data"},
    {Fault::kNan, "nan", "NaN"},
    {Fault::kDataPause, "data-pause", ""},
};

// Medians of so many are compared.
constexpr std::int64_t kStepsToBeSlow = 12;

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// Stops this process; a child of it lets it go on.
void stop_for(double seconds) {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    usleep(static_cast<useconds_t>(seconds * 1e6));
    kill(parent, SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
  waitpid(child, nullptr, 0);
}

at::Tensor draw(std::uint64_t seed, const std::string& name,
                std::vector<std::int64_t> shape, float width) {
  at::Tensor tensor = at::empty(shape);
  const std::uint64_t key = intro::stream_key(seed, name);
  float* const values = tensor.data_ptr<float>();
  for (std::int64_t k = 0; k < tensor.numel(); ++k) {
    values[k] = width * (2 * intro::uniform01(key, k) - 1);
  }
  return tensor;
}

constexpr std::int64_t kInputs = 16;

// y = out(tanh(up(x))), and a gate that the unused-parameter bug leaves out.
struct Model {
  std::vector<intro::NamedParameter> parameters;

  Model(std::int64_t hidden, std::uint64_t seed, at::Device device) {
    const auto add = [&](const char* name, std::vector<std::int64_t> shape) {
      at::Tensor tensor = draw(seed, name, std::move(shape), 0.2F).to(device);
      parameters.push_back({name, tensor.requires_grad_()});
    };
    add("up.weight", {hidden, kInputs});
    add("gate.weight", {hidden, kInputs});
    add("out.weight", {1, hidden});
  }
  at::Tensor loss(const at::Tensor& x, const at::Tensor& y, bool gated) const {
    at::Tensor inner = at::tanh(at::linear(x, parameters[0].tensor));
    if (gated) inner = inner * at::linear(x, parameters[1].tensor);
    return (at::linear(inner, parameters[2].tensor) - y).square().mean();
  }
};

class Patient {
 public:
  Patient(ProcessGroup& group, Watch& watch, const PatientOptions& options)
      : group_(group),
        watch_(watch),
        options_(options),
        // A seed that knows its rank: the classic.
        model_(options.hidden,
               options.seed + (options.fault == Fault::kInitialisation &&
                               group.rank() == options.rank),
               group.device()),
        model_watch_(watch, model_.parameters, /*every=*/1) {}

  // False: this rank has no more data.
  bool step(std::int64_t step) {
    step_ = step;
    watch_.begin_step(step);
    if (mine(Fault::kDrift)) {  // memory that forgets
      model_.parameters[1].tensor.detach()[0][2].add_(1e-3);
    }
    model_watch_.begin_step(step);
    watch_.enter("data");
    if (mine(Fault::kInputsExhausted)) return false;
    if (mine(Fault::kDataPause)) sleep_s(options_.pause_s);
    // A sampler that is off by one rank.
    const int share =
        (group_.rank() + mine(Fault::kOverlappingData)) % group_.size();
    const at::Tensor x =
        draw(options_.seed, fmt::format("data {} {}", step, share),
             {options_.samples, kInputs}, 1)
            .to(group_.device());
    model_watch_.saw_data(step, fingerprint(x));
    if (mine(Fault::kNan)) {  // a weight that has run away
      model_.parameters[1].tensor.detach()[0].fill_(3e38);
    }
    const at::Tensor y = at::sin(x.sum(1, /*keepdim=*/true));

    watch_.enter("forward");
    for (auto& [name, tensor] : model_.parameters)
      tensor.mutable_grad().reset();
    const bool gated = !mine(Fault::kUnusedParameter);
    const at::Tensor loss = model_.loss(x, y, gated);
    model_watch_.saw_loss(step, loss, [&] { model_.loss(x, y, gated); });
    watch_.enter("backward");
    loss.backward();
    require_all_reached();
    suffer();

    watch_.enter("sync");
    reduce_gradients();
    reduce_loss(loss.detach());
    update(learning_rate());
    return true;
  }

  const std::vector<double>& losses() const { return losses_; }

 private:
  // Whether this rank has that fault now.
  bool mine(Fault fault) const {
    return options_.fault == fault && group_.rank() == options_.rank &&
           step_ == options_.step;
  }
  bool mine_from_now_on(Fault fault) const {
    return options_.fault == fault && group_.rank() == options_.rank &&
           step_ >= options_.step;
  }

  void require_all_reached() const {
    std::vector<bool> reached;
    for (const auto& parameter : model_.parameters) {
      reached.push_back(parameter.tensor.grad().defined());
    }
    const std::string text = describe_unreached(model_.parameters, reached);
    if (!text.empty()) throw std::runtime_error(text);
  }

  // What happens to processes.
  void suffer() const {
    if (mine(Fault::kProcessDead)) raise(SIGKILL);
    if (mine(Fault::kProcessStopped)) stop_for(options_.pause_s);
    if (mine(Fault::kRankAbsent)) sleep_s(options_.pause_s);
    if (mine_from_now_on(Fault::kSlowRank)) sleep_s(0.05);
  }

  // Two buckets, both on their way before the first is waited for.
  void reduce_gradients() {
    std::vector<at::Tensor> buckets;
    static const std::string kSubjects[] = {"bucket 0: up, gate",
                                            "bucket 1: out"};
    const auto& parameters = model_.parameters;
    buckets.push_back(at::zeros({2, options_.hidden, kInputs},
                                at::TensorOptions(group_.device())));
    buckets[0][0].copy_(parameters[0].tensor.grad());
    buckets[0][1].copy_(parameters[1].tensor.grad());
    buckets.push_back(parameters[2].tensor.grad().clone());
    if (mine(Fault::kShape)) {
      buckets[1] = at::zeros({1, options_.hidden + 1},
                             at::TensorOptions(group_.device()));
    }
    if (mine(Fault::kDtype)) buckets[1] = buckets[1].to(at::kDouble);
    std::vector<int> order{1, 0};  // as backward makes them ready
    if (mine(Fault::kSwappedOrder)) order = {0, 1};
    std::vector<c10::intrusive_ptr<::c10d::Work>> works;
    for (const int bucket : order) {
      const CallSubject subject(kSubjects[bucket]);
      std::vector<at::Tensor> tensors{buckets[bucket]};
      ::c10d::AllreduceOptions all_reduce;
      if (mine(Fault::kReduceOp)) all_reduce.reduceOp = ::c10d::ReduceOp::MAX;
      works.push_back(group_.c10d()->allreduce(tensors, all_reduce));
    }
    for (const auto& work : works) work->wait();
    for (std::size_t k = 0; k < 2; ++k) {
      parameters[k].tensor.mutable_grad() =
          buckets[0][static_cast<std::int64_t>(k)] / group_.size();
    }
    parameters[2].tensor.mutable_grad() = buckets[1] / group_.size();
  }

  void reduce_loss(at::Tensor loss) {
    if (mine(Fault::kSkippedCall)) return;
    const int times = mine(Fault::kExtraCall) ? 2 : 1;
    for (int k = 0; k < times; ++k) group_.all_reduce(loss);
    losses_.push_back(loss.item<double>() / group_.size());
    if (mine(Fault::kBranch)) group_.barrier();  // "only when it is rank 2"
  }

  // Rank 0 says it.
  double learning_rate() {
    at::Tensor rate = at::full({1}, 0.05, at::TensorOptions(group_.device()));
    group_.broadcast(rate, mine(Fault::kRoot) ? std::max(1, group_.rank()) : 0);
    return rate.item<double>();
  }

  void update(double rate) {
    watch_.enter("update");
    for (const auto& [name, tensor] : model_.parameters) {
      tensor.detach().add_(tensor.grad(), -rate);
    }
  }

  ProcessGroup& group_;
  Watch& watch_;
  const PatientOptions& options_;
  Model model_;
  ModelWatch model_watch_;
  std::int64_t step_ = 0;
  std::vector<double> losses_;
};

}  // namespace

const std::vector<std::string>& fault_names() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const FaultName& one : kFaults) names.emplace_back(one.name);
    return names;
  }();
  return kNames;
}

Fault fault_from(const std::string& name) {
  for (const FaultName& one : kFaults) {
    if (one.name == name) return one.fault;
  }
  throw UsageError(fmt::format("--fault {}: no such fault", name));
}

std::string expected_verdict(Fault fault) {
  for (const FaultName& one : kFaults) {
    if (one.fault == fault) return one.verdict;
  }
  return {};
}

void PatientOptions::check(int ranks) const {
  if (ranks < 2) {
    throw UsageError("one rank: none of its bugs shows without a second one");
  }
  if (rank < 0 || rank >= ranks) {
    throw UsageError(fmt::format("--rank {}: there are {} ranks", rank, ranks));
  }
  const std::int64_t after = fault == Fault::kSlowRank ? kStepsToBeSlow : 1;
  if (step + after > steps) {
    throw UsageError(fmt::format("--at-step {}: of {} steps, and {} are needed",
                                 step, steps, after));
  }
}

PatientRun train_patient(ProcessGroup& group, Watch& watch,
                         const PatientOptions& options) {
  Patient patient(group, watch, options);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    if (!patient.step(step)) break;
  }
  group.shutdown();
  return {patient.losses()};
}

}  // namespace dai::ddp
