// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/backend/collective_backend.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/torch/tensor_lists.h"

namespace dai::hardware {
namespace {

using OpType = ::c10d::OpType;
using Tensors = std::vector<at::Tensor>;

std::optional<DType> dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    case at::kInt:
      return DType::kInt32;
    case at::kLong:
      return DType::kInt64;
    case at::kBool:
      return DType::kBool;
    case at::kChar:
      return DType::kInt8;
    case at::kByte:
      return DType::kUInt8;
    case at::kShort:
      return DType::kInt16;
    default:
      return std::nullopt;
  }
}

ReduceOp reduce_op_of(const ::c10d::ReduceOp& op) {
  if (op == ::c10d::ReduceOp::SUM) return ReduceOp::kSum;
  if (op == ::c10d::ReduceOp::AVG) return ReduceOp::kAvg;
  if (op == ::c10d::ReduceOp::MIN) return ReduceOp::kMin;
  if (op == ::c10d::ReduceOp::MAX) return ReduceOp::kMax;
  if (op == ::c10d::ReduceOp::PRODUCT) return ReduceOp::kProduct;
  throw std::invalid_argument(
      "dai reduces by sum, avg, min, max and product only");
}

void* bytes(const at::Tensor& tensor) {
  return tensor.data_ptr();
}

// For moving: a dtype that dai does not reduce travels as bytes.
Operands moved(const at::Tensor& input, const at::Tensor& output,
               std::int64_t elements, int root = 0) {
  const at::Tensor& any = input.defined() ? input : output;
  Operands o;
  o.input = input.defined() ? bytes(input) : nullptr;
  o.output = output.defined() ? bytes(output) : nullptr;
  const auto dtype = dtype_of(any.scalar_type());
  o.dtype = dtype.value_or(DType::kBool);
  o.count = elements * (dtype ? 1 : any.element_size());
  o.root = root;
  return o;
}

Operands reduced(const at::Tensor& input, const at::Tensor& output,
                 std::int64_t elements, const ::c10d::ReduceOp& op,
                 int root = 0) {
  const auto dtype = dtype_of(input.scalar_type());
  if (!dtype) {
    throw std::invalid_argument(
        fmt::format("dai does not reduce {}", toString(input.scalar_type())));
  }
  Operands o = moved(input, output, elements, root);
  o.op = reduce_op_of(op);
  check_reduction(*dtype, o.op);
  return o;
}

}  // namespace

CollectiveBackend::CollectiveBackend(int rank, int size,
                                     std::unique_ptr<Communicator> group,
                                     std::unique_ptr<MessageEngine> messages)
    : Backend(rank, size),
      group_(std::move(group)),
      messages_(std::move(messages)),
      thread_([this] { work_loop(); }) {}

CollectiveBackend::~CollectiveBackend() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  messages_.reset();
  group_.reset();
}

void CollectiveBackend::work_loop() {
  const at::NoGradGuard results_are_no_part_of_a_graph;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      job.run(*group_);
    } catch (...) {
      error = std::current_exception();
    }
    job.work->complete(error);
    lock.lock();
  }
}

CollectiveBackend::WorkPtr CollectiveBackend::issue(
    OpType type, const Tensors& results,
    std::function<void(Communicator&)> run) {
  auto work = c10::make_intrusive<FutureWork>(rank_, type, results);
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({std::move(run), work});
  }
  wake_.notify_one();
  return work;
}

CollectiveBackend::WorkPtr CollectiveBackend::broadcast(
    Tensors& tensors, const ::c10d::BroadcastOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  return issue(OpType::BROADCAST, tensors, [tensors, root](Communicator& g) {
    for (const at::Tensor& t : tensors) {
      g.run(Collective::kBroadcast, moved(t, t, t.numel(), root));
    }
  });
}

CollectiveBackend::WorkPtr CollectiveBackend::reduce_all(
    OpType type, const Tensors& tensors, const ::c10d::ReduceOp& op) {
  std::vector<Operands> all;
  for (const at::Tensor& t : tensors) {
    all.push_back(reduced(t, t, t.numel(), op));
  }
  // The tensors in the capture keep the memory that the operands point to.
  return issue(type, tensors, [tensors, all](Communicator& g) {
    for (const Operands& one : all) g.run(Collective::kAllReduce, one);
  });
}

CollectiveBackend::WorkPtr CollectiveBackend::allreduce(
    Tensors& tensors, const ::c10d::AllreduceOptions& options) {
  return reduce_all(OpType::ALLREDUCE, tensors, options.reduceOp);
}

CollectiveBackend::WorkPtr CollectiveBackend::allreduce_coalesced(
    Tensors& tensors, const ::c10d::AllreduceCoalescedOptions& options) {
  return reduce_all(OpType::ALLREDUCE_COALESCED, tensors, options.reduceOp);
}

CollectiveBackend::WorkPtr CollectiveBackend::reduce(
    Tensors& tensors, const ::c10d::ReduceOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  std::vector<Operands> all;
  for (const at::Tensor& t : tensors) {
    all.push_back(reduced(t, t, t.numel(), options.reduceOp, root));
  }
  return issue(OpType::REDUCE, tensors, [tensors, all](Communicator& g) {
    for (const Operands& one : all) g.run(Collective::kReduce, one);
  });
}

CollectiveBackend::WorkPtr CollectiveBackend::gather_all(
    OpType type, const Tensors& outputs, const Tensors& inputs,
    std::function<void()> finish) {
  return issue(type, outputs,
               [outputs, inputs, finish = std::move(finish)](Communicator& g) {
                 for (std::size_t i = 0; i < inputs.size(); ++i) {
                   g.run(Collective::kAllGather,
                         moved(inputs[i], outputs[i], inputs[i].numel()));
                 }
                 if (finish) finish();
               });
}

CollectiveBackend::WorkPtr CollectiveBackend::allgather(
    TensorLists& outputs, Tensors& inputs, const ::c10d::AllgatherOptions&) {
  Tensors rooms;
  for (const at::Tensor& in : inputs) rooms.push_back(room_for_all(in, size_));
  return gather_all(OpType::ALLGATHER, rooms, inputs, [rooms, outputs] {
    for (std::size_t i = 0; i < rooms.size(); ++i) {
      copy_parts(rooms[i], outputs[i]);
    }
  });
}

CollectiveBackend::WorkPtr CollectiveBackend::_allgather_base(
    at::Tensor& output, at::Tensor& input, const ::c10d::AllgatherOptions&) {
  return gather_all(OpType::_ALLGATHER_BASE, {output}, {input});
}

CollectiveBackend::WorkPtr CollectiveBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const ::c10d::AllgatherOptions&) {
  return gather_all(OpType::COALESCED, outputs, inputs);
}

CollectiveBackend::WorkPtr CollectiveBackend::gather(
    TensorLists& outputs, Tensors& inputs,
    const ::c10d::GatherOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  const bool here = root == rank_;
  const at::Tensor input = inputs[0];
  const at::Tensor room = here ? room_for_all(input, size_) : at::Tensor();
  const Tensors results = here ? outputs[0] : Tensors{};
  return issue(
      OpType::GATHER, results, [input, room, root, results](Communicator& g) {
        g.run(Collective::kGather, moved(input, room, input.numel(), root));
        if (room.defined()) copy_parts(room, results);
      });
}

CollectiveBackend::WorkPtr CollectiveBackend::scatter(
    Tensors& outputs, TensorLists& inputs,
    const ::c10d::ScatterOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  const at::Tensor all = root == rank_ ? joined(inputs[0]) : at::Tensor();
  return issue(OpType::SCATTER, outputs,
               [output = outputs[0], all, root](Communicator& g) {
                 g.run(Collective::kScatter,
                       moved(all, output, output.numel(), root));
               });
}

CollectiveBackend::WorkPtr CollectiveBackend::scatter_sums(
    OpType type, const Tensors& outputs, const Tensors& inputs,
    const ::c10d::ReduceOp& op) {
  std::vector<Operands> all;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    all.push_back(reduced(inputs[i], outputs[i], outputs[i].numel(), op));
  }
  return issue(type, outputs, [outputs, inputs, all](Communicator& g) {
    for (const Operands& one : all) g.run(Collective::kReduceScatter, one);
  });
}

CollectiveBackend::WorkPtr CollectiveBackend::reduce_scatter(
    Tensors& outputs, TensorLists& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  Tensors flat;
  for (const Tensors& list : inputs) flat.push_back(joined(list));
  return scatter_sums(OpType::REDUCE_SCATTER, outputs, flat, options.reduceOp);
}

CollectiveBackend::WorkPtr CollectiveBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input,
    const ::c10d::ReduceScatterOptions& options) {
  return scatter_sums(OpType::_REDUCE_SCATTER_BASE, {output}, {input},
                      options.reduceOp);
}

CollectiveBackend::WorkPtr CollectiveBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  return scatter_sums(OpType::COALESCED, outputs, inputs, options.reduceOp);
}

CollectiveBackend::WorkPtr CollectiveBackend::exchange(
    OpType type, const at::Tensor& output, const at::Tensor& input,
    const Splits& output_rows, const Splits& input_rows,
    std::function<void()> finish) {
  const auto sizes = [&](const at::Tensor& tensor, const Splits& splits) {
    const std::int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
    const std::int64_t row = rows == 0 ? 0 : tensor.numel() / rows;
    std::vector<std::size_t> all;
    for (int r = 0; r < size_; ++r) {
      const std::int64_t n = splits.empty() ? rows / size_ : splits[r];
      all.push_back(n * row * tensor.element_size());
    }
    return all;
  };
  return issue(
      type, {output},
      [output, input, sends = sizes(input, input_rows),
       receives = sizes(output, output_rows),
       finish = std::move(finish)](Communicator& g) {
        g.run(UnevenOperands{bytes(input), bytes(output), sends, receives});
        if (finish) finish();
      });
}

CollectiveBackend::WorkPtr CollectiveBackend::alltoall_base(
    at::Tensor& output, at::Tensor& input, Splits& output_splits,
    Splits& input_splits, const ::c10d::AllToAllOptions&) {
  return exchange(OpType::ALLTOALL_BASE, output, input, output_splits,
                  input_splits);
}

CollectiveBackend::WorkPtr CollectiveBackend::alltoall(
    Tensors& outputs, Tensors& inputs, const ::c10d::AllToAllOptions&) {
  const Splits out = lengths(outputs);
  const at::Tensor all = joined(inputs);
  const at::Tensor room =
      at::empty({std::accumulate(out.begin(), out.end(), std::int64_t{0})},
                outputs[0].options());
  return exchange(OpType::ALLTOALL, room, all, out, lengths(inputs),
                  [room, outputs] { copy_parts(room, outputs); });
}

CollectiveBackend::WorkPtr CollectiveBackend::barrier(
    const ::c10d::BarrierOptions&) {
  return issue(OpType::BARRIER, {},
               [](Communicator& g) { g.run(Collective::kBarrier, {}); });
}

CollectiveBackend::WorkPtr CollectiveBackend::send(Tensors& tensors, int peer,
                                                   int tag) {
  auto work = c10::make_intrusive<FutureWork>(rank_, OpType::SEND, tensors);
  const at::Tensor tensor = tensors[0];
  messages_->send(
      peer, tag, bytes(tensor), tensor.nbytes(),
      [work, tensor](std::exception_ptr error, int) { work->complete(error); });
  return work;
}

CollectiveBackend::WorkPtr CollectiveBackend::receive_from(
    int from, const Tensors& tensors, int tag, OpType type) {
  auto work = c10::make_intrusive<FutureWork>(rank_, type, tensors);
  const at::Tensor tensor = tensors[0];
  messages_->receive(from, tag, bytes(tensor), tensor.nbytes(),
                     [work, tensor](std::exception_ptr error, int source) {
                       work->set_source(source);
                       work->complete(error);
                     });
  return work;
}

CollectiveBackend::WorkPtr CollectiveBackend::recv(Tensors& tensors, int peer,
                                                   int tag) {
  return receive_from(peer, tensors, tag, OpType::RECV);
}

CollectiveBackend::WorkPtr CollectiveBackend::recvAnysource(Tensors& tensors,
                                                            int tag) {
  return receive_from(MessageEngine::kAnyRank, tensors, tag,
                      OpType::RECVANYSOURCE);
}

}  // namespace dai::hardware
