// SPDX-License-Identifier: Apache-2.0
#include "common/torch/process_group.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <filesystem>
#include <string_view>
#include <utility>

#include "common/app.h"
#include "common/torch/backend_choice.h"
#include "common/torch/observed_backend.h"
#include "common/torch/rendezvous.h"

namespace dai {
namespace {

using std::chrono::milliseconds;
using BackendType = ::c10d::ProcessGroup::BackendType;

::c10d::ReduceOp to_c10d(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ::c10d::ReduceOp::SUM;
    case ReduceOp::kAvg:
      return ::c10d::ReduceOp::AVG;
    case ReduceOp::kProduct:
      return ::c10d::ReduceOp::PRODUCT;
    case ReduceOp::kMin:
      return ::c10d::ReduceOp::MIN;
    case ReduceOp::kMax:
      return ::c10d::ReduceOp::MAX;
  }
  throw std::invalid_argument("unknown ReduceOp");
}

// For the time of one helper: where it was called from, for the observers. Also
// checks its tensor here, since PyTorch's dispatcher would meet a bad one first
// and answer with a page of text.
class Call {
 public:
  Call(ObservedBackend& backend, const std::source_location& where,
       const char* op, const std::vector<at::Tensor>& tensors)
      : Call(backend, where) {
    backend.check(op).tensors(tensors);
  }
  Call(ObservedBackend& backend, const std::source_location& where)
      : backend_(backend) {
    std::string_view file = where.file_name();
    file.remove_prefix(file.rfind('/') + 1);
    backend_.set_where(fmt::format("{}:{}", file, where.line()));
  }
  ~Call() { backend_.set_where({}); }

 private:
  ObservedBackend& backend_;
};

}  // namespace

struct ProcessGroup::State {
  LaunchContext launch;
  milliseconds timeout{0};
  at::Device device = at::kCPU;
  std::string backend_name;
  std::string description;
  c10::intrusive_ptr<::c10d::Store> store;
  c10::intrusive_ptr<ObservedBackend> backend;
  c10::intrusive_ptr<::c10d::ProcessGroup> c10d;
  std::int64_t gathers = 0;
  bool closed = false;
  const int exceptions_at_birth = std::uncaught_exceptions();

  bool unwinding() const {
    return std::uncaught_exceptions() > exceptions_at_birth;
  }
  // Lets go of everything without destroying it: Gloo's destructor waits for
  // collectives that a dead peer will never finish.
  void abandon() {
    closed = true;
    request_fast_exit();
    (void)c10d.release();
    (void)backend.release();
    (void)store.release();
  }
};

void add_distributed_options(OptionSet& set, DistributedOptions& options) {
  set.add("--backend", options.backend, {"auto", "gloo", "nccl", "mpi", "dai"},
          "what carries the collectives; auto: nccl on cuda, gloo on cpu; mpi "
          "needs mpirun; dai: chapter 2's own");
  set.add("--device", options.device, {"auto", "cpu", "cuda"},
          "where tensors live; auto: cuda if there is one");
  set.add("--timeout-s", options.timeout_s,
          "give up on silent ranks after this many seconds");
  set.add("--interface", options.interface,
          "network interface for collectives, such as eth0");
}

ProcessGroup ProcessGroup::connect(const LaunchContext& launch,
                                   const DistributedOptions& options,
                                   const std::function<void()>& preflight,
                                   const std::string& fingerprint) {
  // Gloo writes with writev(), so a peer that is gone would end this process
  // by SIGPIPE, without a word; ignored, it is an error like any other.
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    throw std::runtime_error("cannot ignore SIGPIPE");
  }
  auto state = std::make_unique<State>();
  state->launch = launch;
  state->timeout = std::chrono::seconds(options.timeout_s);
  state->store = open_store(launch, state->timeout);
  BackendChoice choice;
  try {
    const auto hosts =
        agree_on_launch(*state->store, launch, fingerprint, state->timeout);
    if (launch.rank == 0 && launch.master_addr.empty()) {
      std::error_code ignored;  // all have met: nobody needs the file
      std::filesystem::remove(launch.meeting_file, ignored);
    }
    agree_on_start(
        *state->store, launch,
        [&] {
          choice = choose_backend(options, launch, hosts);
          if (preflight) preflight();
          return choice.name;
        },
        state->timeout);
  } catch (...) {
    say_goodbye(*state->store, launch);
    throw;
  }
  state->device = choice.device;
  state->backend_name = choice.name;

  const int rank = launch.rank;
  const int size = launch.world_size;
  const bool cuda = choice.device.is_cuda();
  state->backend = c10::make_intrusive<ObservedBackend>(
      form_backend(choice, launch, state->store), choice.device.type(), "world",
      state->timeout);
  if (auto observer = make_rank_status_observer(launch)) {
    state->backend->add_observer(std::move(observer));
  }
  state->c10d =
      c10::make_intrusive<::c10d::ProcessGroup>(state->store, rank, size);
  const auto type = choice.name == "mpi"   ? BackendType::MPI
                    : choice.name == "dai" ? BackendType::CUSTOM
                    : cuda                 ? BackendType::NCCL
                                           : BackendType::GLOO;
  if (cuda) state->c10d->setBoundDeviceId(state->device);
  state->c10d->setBackend(state->device.type(), type, state->backend);
  state->c10d->setDefaultBackend(type);
  state->c10d->setGroupName("world");
  state->description =
      fmt::format("{} via {}, {} rank{}, time-out {} s", choice.name,
                  choice.via, size, size == 1 ? "" : "s", options.timeout_s);
  return ProcessGroup(std::move(state));
}

ProcessGroup::ProcessGroup(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
ProcessGroup::ProcessGroup(ProcessGroup&&) noexcept = default;

// Throwing here is deliberate: at the end of a scope that went well, "a peer
// died before it was done" has nowhere else to go, and must not read as ok.
ProcessGroup::~ProcessGroup() noexcept(false) {
  if (state_ && !state_->closed) shutdown();
}

void ProcessGroup::shutdown(Where where) {
  State& state = *state_;
  if (state.closed) return;
  if (state.unwinding()) return state.abandon();
  const std::string first_error = state.backend->first_error();
  if (!first_error.empty()) {
    // Reported already where somebody waited; an asynchronous collective that
    // nobody waited for is reported here.
    state.abandon();
    throw std::runtime_error(first_error);
  }
  try {
    const CallSubject subject(kGroupEnds);
    barrier(where);
  } catch (...) {
    state.abandon();
    throw;
  }
  say_goodbye(*state.store, state.launch);
  state.closed = true;
  state.c10d->shutdown();  // NCCL wants it said; Gloo's does nothing
  state.c10d.reset();
  state.backend.reset();
  state.store.reset();
}

int ProcessGroup::rank() const {
  return state_->launch.rank;
}
int ProcessGroup::size() const {
  return state_->launch.world_size;
}
at::Device ProcessGroup::device() const {
  return state_->device;
}
const std::string& ProcessGroup::backend_name() const {
  return state_->backend_name;
}
std::string ProcessGroup::description() const {
  return state_->description;
}
const c10::intrusive_ptr<::c10d::ProcessGroup>& ProcessGroup::c10d() const {
  return state_->c10d;
}
const c10::intrusive_ptr<::c10d::Store>& ProcessGroup::store() const {
  return state_->store;
}
void ProcessGroup::add_observer(std::shared_ptr<CollectiveObserver> observer) {
  state_->backend->add_observer(std::move(observer));
}
void ProcessGroup::remove_observer(
    const std::shared_ptr<CollectiveObserver>& observer) {
  if (state_->closed) return;
  state_->backend->remove_observer(observer);
}

// The helpers go through c10d::ProcessGroup and thus PyTorch's dispatcher, so
// that profilers see them as they see Reducer's.

void ProcessGroup::all_reduce(at::Tensor tensor, ReduceOp op, Where where) {
  const Call call(*state_->backend, where, "all_reduce", {tensor});
  std::vector<at::Tensor> tensors{std::move(tensor)};
  ::c10d::AllreduceOptions options;
  options.reduceOp = to_c10d(op);
  state_->c10d->allreduce(tensors, options)->wait();
}

void ProcessGroup::broadcast(at::Tensor tensor, int root, Where where) {
  const Call call(*state_->backend, where, "broadcast", {tensor});
  std::vector<at::Tensor> tensors{std::move(tensor)};
  ::c10d::BroadcastOptions options;
  options.rootRank = root;
  state_->c10d->broadcast(tensors, options)->wait();
}

at::Tensor ProcessGroup::all_gather(const at::Tensor& input, Where where) {
  const Call call(*state_->backend, where, "all_gather", {input});
  // Gloo wants the ranks' inputs behind one another in the first dimension.
  at::Tensor in = input.dim() == 0 ? input.view({1}) : input;
  std::vector<std::int64_t> shape = in.sizes().vec();
  shape[0] *= size();
  at::Tensor output = at::empty(shape, in.options());
  state_->c10d->_allgather_base(output, in)->wait();
  shape = input.sizes().vec();
  shape.insert(shape.begin(), size());
  return output.view(shape);
}

at::Tensor ProcessGroup::reduce_scatter(const at::Tensor& input, ReduceOp op,
                                        Where where) {
  const Call call(*state_->backend, where, "reduce_scatter", {input});
  std::vector<std::int64_t> shape = input.sizes().vec();
  if (shape.empty()) shape.push_back(1);
  shape[0] /= size();  // an uneven rest is refused by the backend's checks
  at::Tensor output = at::empty(shape, input.options());
  at::Tensor in = input;
  ::c10d::ReduceScatterOptions options;
  options.reduceOp = to_c10d(op);
  state_->c10d->_reduce_scatter_base(output, in, options)->wait();
  return output;
}

at::Tensor ProcessGroup::all_to_all(const at::Tensor& input, Where where) {
  const Call call(*state_->backend, where, "all_to_all", {input});
  at::Tensor output = at::empty_like(input);
  at::Tensor in = input;
  std::vector<std::int64_t> equal_parts;
  state_->c10d->alltoall_base(output, in, equal_parts, equal_parts)->wait();
  return output;
}

void ProcessGroup::send(const at::Tensor& tensor, int to, int tag,
                        Where where) {
  const Call call(*state_->backend, where, "send", {tensor});
  std::vector<at::Tensor> tensors{tensor};
  state_->c10d->send(tensors, to, tag)->wait();
}

void ProcessGroup::recv(at::Tensor tensor, int from, int tag, Where where) {
  const Call call(*state_->backend, where, "recv", {tensor});
  std::vector<at::Tensor> tensors{std::move(tensor)};
  state_->c10d->recv(tensors, from, tag)->wait();
}

void ProcessGroup::barrier(Where where) {
  const Call call(*state_->backend, where);
  state_->c10d->barrier()->wait();
}

std::vector<std::string> ProcessGroup::gather_strings(const std::string& text) {
  // TCPStore refuses values above 8 MiB; traces get longer.
  constexpr std::size_t kPart = 4 << 20;
  State& state = *state_;
  const auto part_key = [&](std::int64_t gather, int rank, std::size_t part) {
    return fmt::format("text {}/{}/{}", gather, rank, part);
  };
  const std::int64_t number = state.gathers++;
  const std::size_t parts = text.size() / kPart + 1;
  for (std::size_t part = 0; part < parts; ++part) {
    state.store->set(part_key(number, rank(), part),
                     text.substr(part * kPart, kPart));
  }
  const auto counts =
      roll_call(*state.store, state.launch, fmt::format("text {}", number),
                "send their text", std::to_string(parts), state.timeout);
  std::vector<std::string> texts(size());
  for (int rank = 0; rank < size(); ++rank) {
    for (int part = 0; part < std::stoi(counts[rank]); ++part) {
      texts[rank] += state.store->get_to_str(part_key(number, rank, part));
    }
  }
  // Rank 0 may serve the store, and may end because of what it has just read:
  // it stays until the others have read it, too.
  const std::string readers = fmt::format("text {}/readers", number);
  const std::string all_have_read = readers + "/all";
  if (state.store->add(readers, 1) == size()) {
    state.store->set(all_have_read, std::string("yes"));
  }
  try {
    if (rank() == 0) state.store->wait({all_have_read}, state.timeout);
  } catch (const c10::DistStoreError&) {
    throw std::runtime_error("not all ranks have read the others' texts");
  }
  return texts;
}

}  // namespace dai
