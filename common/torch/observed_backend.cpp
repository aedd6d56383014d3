// SPDX-License-Identifier: Apache-2.0
#include "common/torch/observed_backend.h"

#include <c10/core/ScalarType.h>

#include <algorithm>

namespace dai {
namespace {

const char* reduce_op_name(const ::c10d::ReduceOp& op) {
  switch (op.op_) {
    case ::c10d::ReduceOp::SUM:
      return "sum";
    case ::c10d::ReduceOp::AVG:
      return "avg";
    case ::c10d::ReduceOp::PRODUCT:
      return "product";
    case ::c10d::ReduceOp::MIN:
      return "min";
    case ::c10d::ReduceOp::MAX:
      return "max";
    case ::c10d::ReduceOp::BAND:
      return "bit and";
    case ::c10d::ReduceOp::BOR:
      return "bit or";
    case ::c10d::ReduceOp::BXOR:
      return "bit xor";
    case ::c10d::ReduceOp::PREMUL_SUM:
      return "premul sum";
    default:
      return "unknown op";
  }
}

}  // namespace

ObservedBackend::ObservedBackend(c10::intrusive_ptr<::c10d::Backend> inner,
                                 at::DeviceType device, std::string group,
                                 std::chrono::milliseconds timeout)
    : Backend(inner->getRank(), inner->getSize()),
      inner_(std::move(inner)),
      device_(device),
      group_(std::move(group)),
      timeout_(timeout) {}

void ObservedBackend::add_observer(
    std::shared_ptr<CollectiveObserver> observer) {
  std::lock_guard lock(list_->mutex);
  list_->observers.push_back(std::move(observer));
}

void ObservedBackend::remove_observer(
    const std::shared_ptr<CollectiveObserver>& observer) {
  std::lock_guard lock(list_->mutex);
  std::erase(list_->observers, observer);
}

std::string ObservedBackend::first_error() const {
  std::lock_guard lock(list_->mutex);
  return list_->first_error;
}

void ObservedBackend::setTimeout(std::chrono::milliseconds timeout) {
  timeout_ = timeout;
  inner_->setTimeout(timeout);
}

CollectiveEvent ObservedBackend::event(const char* op, const Tensors& tensors,
                                       const ::c10d::ReduceOp* reduce_op,
                                       std::int64_t root) {
  CollectiveEvent event;
  event.op = op;
  event.group = group_;
  event.rank = rank_;
  event.tensors = static_cast<std::int64_t>(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    event.bytes += static_cast<std::int64_t>(
        tensor.numel() * static_cast<std::int64_t>(tensor.element_size()));
  }
  if (!tensors.empty()) {
    event.dtype = c10::getDtypeNames(tensors[0].scalar_type()).first;
    event.shape = tensors[0].sizes().vec();
  }
  if (reduce_op) event.reduce_op = reduce_op_name(*reduce_op);
  event.root = static_cast<int>(root);
  event.where = where_;
  event.subject = CallSubject::current();
  return event;
}

CollectiveEvent ObservedBackend::message(const char* op, const Tensors& tensors,
                                         int peer, int tag) {
  CollectiveEvent event = this->event(op, tensors);
  event.peer = peer;
  event.tag = tag;
  return event;
}

EndShows ObservedBackend::end_of(const CollectiveEvent& event) const {
  const std::string name = inner_->getBackendName();
  if (name == "nccl") return EndShows::kInFutureResult;
  // Gloo's reduce_scatter is an all_reduce whose wait() cuts out the shard.
  const bool no_future = event.is_message() || event.op == "reduce_scatter";
  return name == "gloo" && no_future ? EndShows::kInWait : EndShows::kInFuture;
}

template <typename Issue>
ObservedBackend::WorkPtr ObservedBackend::observe(CollectiveEvent event,
                                                  Issue issue) {
  event.sequence =
      1 + (event.is_message() ? messages_ : collectives_).fetch_add(1);
  auto flight = std::make_shared<Flight>(std::move(event), list_, timeout_);
  try {
    flight->begin();
    return c10::make_intrusive<ObservedWork>(issue(), flight,
                                             end_of(flight->event()));
  } catch (const CallRefused&) {
    return c10::make_intrusive<RefusedWork>(
        flight->event().rank, flight->end(std::current_exception()));
  } catch (...) {
    std::rethrow_exception(flight->end(std::current_exception()));
  }
}

ObservedBackend::WorkPtr ObservedBackend::broadcast(
    Tensors& tensors, const ::c10d::BroadcastOptions& options) {
  check("broadcast").tensors(tensors);
  check("broadcast").root(options.rootRank);
  return observe(event("broadcast", tensors, nullptr, options.rootRank),
                 [&] { return inner_->broadcast(tensors, options); });
}

ObservedBackend::WorkPtr ObservedBackend::allreduce(
    Tensors& tensors, const ::c10d::AllreduceOptions& options) {
  check("all_reduce").tensors(tensors);
  return observe(event("all_reduce", tensors, &options.reduceOp),
                 [&] { return inner_->allreduce(tensors, options); });
}

ObservedBackend::WorkPtr ObservedBackend::allreduce_coalesced(
    Tensors& tensors, const ::c10d::AllreduceCoalescedOptions& options) {
  check("all_reduce").tensors(tensors);
  return observe(event("all_reduce", tensors, &options.reduceOp),
                 [&] { return inner_->allreduce_coalesced(tensors, options); });
}

ObservedBackend::WorkPtr ObservedBackend::reduce(
    Tensors& tensors, const ::c10d::ReduceOptions& options) {
  check("reduce").tensors(tensors);
  check("reduce").root(options.rootRank);
  return observe(event("reduce", tensors, &options.reduceOp, options.rootRank),
                 [&] { return inner_->reduce(tensors, options); });
}

ObservedBackend::WorkPtr ObservedBackend::allgather(
    TensorLists& outputs, Tensors& inputs,
    const ::c10d::AllgatherOptions& options) {
  check("all_gather").lists(outputs, inputs);
  return observe(event("all_gather", inputs),
                 [&] { return inner_->allgather(outputs, inputs, options); });
}

ObservedBackend::WorkPtr ObservedBackend::_allgather_base(
    at::Tensor& output, at::Tensor& input,
    const ::c10d::AllgatherOptions& options) {
  check("all_gather").blocks(output, "output", input, "input");
  return observe(event("all_gather", {input}), [&] {
    return inner_->_allgather_base(output, input, options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs,
    const ::c10d::AllgatherOptions& options) {
  check("all_gather").pairs(outputs, "output", inputs, "input");
  return observe(event("all_gather", inputs), [&] {
    return inner_->allgather_into_tensor_coalesced(outputs, inputs, options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::gather(
    TensorLists& outputs, Tensors& inputs,
    const ::c10d::GatherOptions& options) {
  check("gather").tensors(inputs);
  check("gather").root(options.rootRank);
  if (rank_ == options.rootRank) check("gather").lists(outputs, inputs);
  return observe(event("gather", inputs, nullptr, options.rootRank),
                 [&] { return inner_->gather(outputs, inputs, options); });
}

ObservedBackend::WorkPtr ObservedBackend::scatter(
    Tensors& outputs, TensorLists& inputs,
    const ::c10d::ScatterOptions& options) {
  check("scatter").tensors(outputs);
  check("scatter").root(options.rootRank);
  if (rank_ == options.rootRank) check("scatter").lists(inputs, outputs);
  return observe(event("scatter", outputs, nullptr, options.rootRank),
                 [&] { return inner_->scatter(outputs, inputs, options); });
}

ObservedBackend::WorkPtr ObservedBackend::reduce_scatter(
    Tensors& outputs, TensorLists& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  check("reduce_scatter").lists(inputs, outputs);
  return observe(event("reduce_scatter", inputs[0], &options.reduceOp), [&] {
    return inner_->reduce_scatter(outputs, inputs, options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input,
    const ::c10d::ReduceScatterOptions& options) {
  check("reduce_scatter").blocks(input, "input", output, "output");
  return observe(event("reduce_scatter", {input}, &options.reduceOp), [&] {
    return inner_->_reduce_scatter_base(output, input, options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  check("reduce_scatter").pairs(inputs, "input", outputs, "output");
  return observe(event("reduce_scatter", inputs, &options.reduceOp), [&] {
    return inner_->reduce_scatter_tensor_coalesced(outputs, inputs, options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::alltoall_base(
    at::Tensor& output, at::Tensor& input, Splits& output_splits,
    Splits& input_splits, const ::c10d::AllToAllOptions& options) {
  check("all_to_all").splits(output, "output", output_splits);
  check("all_to_all").splits(input, "input", input_splits);
  return observe(event("all_to_all", {input}), [&] {
    return inner_->alltoall_base(output, input, output_splits, input_splits,
                                 options);
  });
}

ObservedBackend::WorkPtr ObservedBackend::alltoall(
    Tensors& outputs, Tensors& inputs, const ::c10d::AllToAllOptions& options) {
  check("all_to_all").tensors(outputs);
  check("all_to_all").tensors(inputs);
  return observe(event("all_to_all", inputs),
                 [&] { return inner_->alltoall(outputs, inputs, options); });
}

ObservedBackend::WorkPtr ObservedBackend::send(Tensors& tensors, int peer,
                                               int tag) {
  check("send").tensors(tensors);
  check("send").peer(peer);
  return observe(message("send", tensors, peer, tag),
                 [&] { return inner_->send(tensors, peer, tag); });
}

ObservedBackend::WorkPtr ObservedBackend::recv(Tensors& tensors, int peer,
                                               int tag) {
  check("recv").tensors(tensors);
  check("recv").peer(peer);
  return observe(message("recv", tensors, peer, tag),
                 [&] { return inner_->recv(tensors, peer, tag); });
}

ObservedBackend::WorkPtr ObservedBackend::recvAnysource(Tensors& tensors,
                                                        int tag) {
  check("recv").tensors(tensors);
  return observe(message("recv", tensors, -1, tag),
                 [&] { return inner_->recvAnysource(tensors, tag); });
}

ObservedBackend::WorkPtr ObservedBackend::barrier(
    const ::c10d::BarrierOptions& options) {
  return observe(event("barrier", {}),
                 [&] { return inner_->barrier(options); });
}

}  // namespace dai
