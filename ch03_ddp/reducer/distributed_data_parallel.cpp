// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/distributed_data_parallel.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "ch03_ddp/buckets/ready_hooks.h"
#include "ch03_ddp/buckets/unreached.h"
#include "ch03_ddp/exchange/bucket_exchange.h"
#include "ch03_ddp/reducer/exchange_hook.h"
#include "ch03_ddp/reducer/join_collectives.h"
#include "ch03_ddp/reducer/reducer_compat.h"
#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using intro::NamedParameter;

namespace {

constexpr std::size_t kBroadcastBytes = std::size_t{250} << 20;  // PyTorch's

// Rank `root`'s values to everybody.
void broadcast(ProcessGroup& group, const std::vector<NamedParameter>& list,
               int root) {
  if (list.empty()) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors;
  for (const auto& each : list) tensors.push_back(each.tensor.detach());
  c10d::broadcast_coalesced(group.c10d(), tensors, kBroadcastBytes, root);
}

// Passes tensors on, and gradients back, but lets those that the loss does not
// depend on arrive as "none" instead of stopping there: Reducer then hears of
// every parameter that the graph search has promised it.
struct Sink : torch::autograd::Function<Sink> {
  static torch::autograd::variable_list forward(
      torch::autograd::AutogradContext* context, at::TensorList inputs) {
    context->set_materialize_grads(false);
    torch::autograd::variable_list outputs;
    for (const at::Tensor& input : inputs) outputs.push_back(input.clone());
    return outputs;
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext*,
      torch::autograd::variable_list gradients) {
    return gradients;
  }
};

}  // namespace

void DdpOptions::check() const {
  if (bucket_cap_mb && !(*bucket_cap_mb > 0 && *bucket_cap_mb < 1e6)) {
    throw UsageError(
        fmt::format("bucket_cap_mb {}: a positive number of MiB is expected",
                    *bucket_cap_mb));
  }
}

struct DistributedDataParallel::State {
  // Where this rank is between a forward and the end of its backward.
  enum class Phase {
    kLocal,    // gradients stay here: no_sync, or no forward yet
    kReduces,  // the next backward is synchronised
  };

  ModelTensors model;
  std::vector<NamedParameter> learning;
  ProcessGroup& group;
  DdpOptions options;
  std::shared_ptr<c10d::Reducer> reducer;
  std::shared_ptr<c10d::Logger> logger;
  std::unique_ptr<BucketExchange> exchange;
  ExchangeHook* exchange_hook = nullptr;  // owned by reducer
  bool has_hook = false;

  bool synchronise = true;  // false inside no_sync
  bool synchronise_buffers = true;
  Phase phase = Phase::kLocal;
  std::vector<bool> reached;  // by the backward under way
  std::size_t reached_count = 0;
  bool delay_queued = false;  // static graph: its first backward has been seen
  std::optional<JoinOptions> joining;
  std::unique_ptr<ReadyHooks> hooks;

  State(ModelTensors tensors, ProcessGroup& ranks, const DdpOptions& given)
      : model(std::move(tensors)), group(ranks), options(given) {}

  void make_reducer();
  void on_ready(std::size_t parameter);
  void require_reached() const;
  void broadcast_buffers();
  void answer_one_step();
};

void DistributedDataParallel::State::make_reducer() {
  constexpr double kMiB = 1 << 20;
  const std::int64_t cap =
      options.bucket_cap_mb
          ? static_cast<std::int64_t>(*options.bucket_cap_mb * kMiB)
          : c10d::kDefaultBucketBytesCap;
  const std::int64_t first =
      options.bucket_cap_mb ? cap : c10d::kDefaultFirstBucketBytes;
  std::vector<at::Tensor> tensors;
  std::vector<bool> sparse;
  std::unordered_map<std::size_t, std::string> names;
  for (const NamedParameter& parameter : learning) {
    names[tensors.size()] = parameter.name;
    tensors.push_back(parameter.tensor);
    sparse.push_back(model.sparse.contains(parameter.name));
  }
  // Before it has seen a backward, Reducer takes the parameters' reverse order;
  // one bucket for all where that order does not matter, as in PyTorch.
  std::vector<std::size_t> caps{static_cast<std::size_t>(first),
                                static_cast<std::size_t>(cap)};
  if (options.static_graph || !options.find_unused_parameters) {
    caps = {std::numeric_limits<std::int64_t>::max()};
  }
  auto [indices, limits] =
      c10d::compute_bucket_assignment_by_size(tensors, caps, sparse);
  std::reverse(indices.begin(), indices.end());
  reducer = std::make_shared<c10d::Reducer>(
      tensors, std::move(indices), group.c10d(), sparse, cap,
      options.find_unused_parameters, options.gradient_as_bucket_view, names,
      first, /*skip_all_reduce_unused_params=*/false,
      /*use_python_reducer=*/false, std::vector<std::int64_t>{});
  logger = std::make_shared<c10d::Logger>(reducer);
  reducer->set_logger(logger);
  logger->set_construction_data_and_log(
      model.name, {}, -1, options.broadcast_buffers,
      /*has_sync_bn=*/false, options.static_graph);
  if (options.static_graph) {
    reducer->set_static_graph();
    logger->set_static_graph();
  }
}

// Comes before Reducer's own hook of the same parameter.
void DistributedDataParallel::State::on_ready(std::size_t parameter) {
  if (phase == Phase::kLocal) {
    if (synchronise) {
      throw std::logic_error(fmt::format(
          "{}: a gradient without a forward before it: backward outside of "
          "DistributedDataParallel would stay on this rank",
          learning[parameter].name));
    }
    return;
  }
  // Static graphs may use a parameter in several backwards of one step.
  if (options.static_graph) return;
  if (reached[parameter]) {
    throw std::logic_error(fmt::format(
        "{}: a second gradient since forward: backward of the same graph twice "
        "would leave it on this rank; call forward() again, or accumulate "
        "under no_sync()",
        learning[parameter].name));
  }
  reached[parameter] = true;
  ++reached_count;
}

void DistributedDataParallel::State::require_reached() const {
  if (phase != Phase::kReduces || reached_count == 0 ||
      options.find_unused_parameters || options.static_graph ||
      reached_count == learning.size()) {
    return;
  }
  throw std::runtime_error(
      fmt::format("rank {}: {}; if the model is meant to skip parts, set "
                  "find_unused_parameters",
                  group.rank(), describe_unreached(learning, reached)));
}

void DistributedDataParallel::State::broadcast_buffers() {
  if (!options.broadcast_buffers || model.buffers.empty() ||
      !synchronise_buffers) {
    return;
  }
  const int root = joining ? largest_rank(group, true) : 0;
  broadcast(group, model.buffers, root);
}

DistributedDataParallel::DistributedDataParallel(ModelTensors model,
                                                 ProcessGroup& group,
                                                 const DdpOptions& options)
    : state_(std::make_unique<State>(std::move(model), group, options)) {
  State& state = *state_;
  options.check();
  for (const NamedParameter& parameter : state.model.parameters) {
    if (parameter.tensor.requires_grad()) state.learning.push_back(parameter);
  }
  require_same_model(state.model, group);
  if (state.learning.empty()) {
    throw UsageError(
        fmt::format("{}: no parameter requires a gradient", state.model.name));
  }
  broadcast(group, state.model.parameters, 0);
  broadcast(group, state.model.buffers, 0);
  state.hooks = std::make_unique<ReadyHooks>(
      state.learning, [s = state_.get()](std::size_t i) { s->on_ready(i); });
  state.make_reducer();
}

DistributedDataParallel::~DistributedDataParallel() {
  state_->reducer->remove_autograd_hooks();
}

DistributedDataParallel::NoSync::NoSync(DistributedDataParallel& ddp)
    : ddp_(ddp), before_(ddp.state_->synchronise) {
  ddp_.state_->synchronise = false;
}
DistributedDataParallel::NoSync::~NoSync() {
  ddp_.state_->synchronise = before_;
}

void DistributedDataParallel::pre_forward() {
  State& state = *state_;
  const bool learns = at::GradMode::is_enabled();
  if (learns) state.require_reached();
  if (learns && state.synchronise) {
    state.logger->set_runtime_stats_and_log();
    state.reducer->prepare_for_forward();
  }
  if (state.joining) {
    auto work = announce_active(state.group);
    state.reducer->set_forward_pass_work_handle(
        std::move(work), state.joining->divide_by_initial_world_size);
    if (state.joining->throw_on_early_termination &&
        somebody_has_ended(state.group, false)) {
      throw std::runtime_error("another rank has no more data");
    }
  }
  if (learns) state.reducer->rebuild_buckets();
  state.broadcast_buffers();
  if (state.joining) announce_sync(state.group, state.synchronise);
}

std::vector<at::Tensor> DistributedDataParallel::post_forward(
    std::vector<at::Tensor> outputs) {
  State& state = *state_;
  const bool searches =
      state.options.find_unused_parameters && !state.options.static_graph;
  if (at::GradMode::is_enabled() && state.synchronise) {
    state.synchronise_buffers = true;
    state.phase = State::Phase::kReduces;
    state.reached.assign(state.learning.size(), false);
    state.reached_count = 0;
    state.reducer->prepare_for_backward(searches ? outputs
                                                 : std::vector<at::Tensor>{});
  } else {
    state.synchronise_buffers = false;
    if (at::GradMode::is_enabled()) state.phase = State::Phase::kLocal;
  }
  if (!at::GradMode::is_enabled()) return outputs;
  if (state.options.static_graph && !state.delay_queued) {
    // In a static graph's first backward Reducer only counts; what it then
    // knows it reduces when that backward ends.
    for (const at::Tensor& output : outputs) {
      if (!output.requires_grad()) continue;
      output.register_hook([s = state_.get()](const at::Tensor& gradient) {
        if (!s->delay_queued) {
          s->delay_queued = true;
          torch::autograd::Engine::get_default_engine().queue_callback(
              [s] { s->reducer->delay_all_reduce(); });
        }
        return gradient;
      });
    }
  }
  if (searches && outputs.size() > 1) {
    std::vector<at::Tensor> with_graph;
    for (const at::Tensor& output : outputs) {
      if (output.requires_grad()) with_graph.push_back(output);
    }
    with_graph = Sink::apply(at::TensorList(with_graph));
    auto next = with_graph.begin();
    for (at::Tensor& output : outputs) {
      if (output.requires_grad()) output = *next++;
    }
  }
  return outputs;
}

void DistributedDataParallel::set_microbatch(std::int64_t id) {
  if (state_->exchange_hook) state_->exchange_hook->set_microbatch(id);
}

void DistributedDataParallel::check_reduced() const {
  state_->require_reached();
}

void DistributedDataParallel::register_comm_hook(
    std::unique_ptr<c10d::CommHookInterface> hook) {
  if (state_->has_hook) {
    throw std::logic_error("a second communication hook");
  }
  state_->has_hook = true;
  state_->reducer->register_comm_hook(std::move(hook));
}

void DistributedDataParallel::use_exchange(
    std::unique_ptr<BucketExchange> exchange, double divisor) {
  auto hook =
      std::make_unique<ExchangeHook>(state_->learning, *exchange, divisor);
  auto* const kept = hook.get();
  const std::string name = exchange->name();
  register_comm_hook(std::move(hook));
  state_->exchange = std::move(exchange);
  state_->exchange_hook = kept;
  state_->logger->set_comm_hook(name);
}

BucketExchange* DistributedDataParallel::exchange() const {
  return state_->exchange.get();
}

void DistributedDataParallel::begin_join(const JoinOptions& options) {
  state_->joining = options;
  state_->logger->set_uneven_input_join();
}

// What a rank that has no more data does while others train one step.
void DistributedDataParallel::State::answer_one_step() {
  reducer->rebuild_buckets();
  if (options.broadcast_buffers && !model.buffers.empty() &&
      synchronise_buffers) {
    broadcast(group, model.buffers, largest_rank(group, false));
  }
  const bool reduces = somebody_synchronises(group);
  synchronise_buffers = reduces;
  if (!reduces) return;
  std::vector<c10::intrusive_ptr<c10::ivalue::Future>> futures;
  for (c10d::GradBucket& bucket : reducer->get_grad_buckets()) {
    futures.push_back(reducer->run_comm_hook(bucket));  // of zeros
  }
  for (const auto& future : futures) future->waitAndThrow();
  if (options.find_unused_parameters) {
    std::vector<at::Tensor> map{reducer->get_local_used_map_on_device()};
    group.c10d()->allreduce(map)->wait();
  }
  reducer->push_rebuilt_params_for_all_indices();
}

void DistributedDataParallel::end_join() {
  State& state = *state_;
  state.require_reached();
  bool trained_longest = true;
  while (somebody_is_active(state.group)) {
    if (state.joining->throw_on_early_termination) {
      somebody_has_ended(state.group, true);
      throw std::runtime_error(
          fmt::format("rank {} has no more data", state.group.rank()));
    }
    state.answer_one_step();
    trained_longest = false;
  }
  const int root = largest_rank(state.group, trained_longest);
  broadcast(state.group, state.model.parameters, root);
  broadcast(state.group, state.model.buffers, root);
  state.joining.reset();
}

void DistributedDataParallel::leave_join() noexcept {
  state_->joining.reset();
}

std::vector<std::pair<std::string, std::string>>
DistributedDataParallel::logging_data() const {
  const at::DDPLoggingData data = state_->logger->get_ddp_logging_data();
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto& [key, value] : data.ints_map) {
    rows.emplace_back(key, fmt::format("{}", value));
  }
  for (const auto& [key, value] : data.strs_map) rows.emplace_back(key, value);
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::string DistributedDataParallel::logging_table() const {
  const auto rows = logging_data();
  std::size_t width = 0;
  for (const auto& [key, value] : rows) width = std::max(width, key.size());
  std::string text;
  for (const auto& [key, value] : rows) {
    if (!value.empty()) text += fmt::format("{:<{}}  {}\n", key, width, value);
  }
  return text;
}

std::vector<std::int64_t> DistributedDataParallel::bucket_bytes() const {
  std::vector<std::int64_t> bytes;
  for (const auto& bucket : state_->reducer->get_grad_buckets(false)) {
    bytes.push_back(static_cast<std::int64_t>(bucket.getBuffer().nbytes()));
  }
  return bytes;
}

const std::vector<NamedParameter>& DistributedDataParallel::parameters() const {
  return state_->learning;
}

}  // namespace dai::ddp
