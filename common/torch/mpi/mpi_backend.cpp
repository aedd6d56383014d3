// SPDX-License-Identifier: Apache-2.0
#include "common/torch/mpi/mpi_backend.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/errors.h"
#include "common/torch/mpi/mpi_types.h"
#include "common/torch/tensor_lists.h"

namespace dai {
namespace {

using std::chrono::milliseconds;
using Tensors = std::vector<at::Tensor>;
using OpType = ::c10d::OpType;

// Calls f(first element, elements) for parts of at most `most`.
template <typename F>
void in_parts(const at::Tensor& tensor, std::int64_t most, F f) {
  const std::int64_t n = tensor.numel();
  for (std::int64_t first = 0; first < n; first += most) {
    f(static_cast<std::int64_t>(tensor.element_size()) * first,
      static_cast<int>(std::min(most, n - first)));
  }
}

char* bytes(const at::Tensor& tensor) {
  return static_cast<char*>(tensor.data_ptr());
}

// What the operators write must be there before MPI reads it.
void wait_for_stream(const Tensors& tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.device().is_cpu()) continue;
    const c10::impl::VirtualGuardImpl device(tensor.device().type());
    device.synchronizeStream(device.getStream(tensor.device()));
  }
}

void divide(const Tensors& tensors, const ::c10d::ReduceOp& op, int size) {
  if (op != ::c10d::ReduceOp::AVG) return;
  for (at::Tensor tensor : tensors) tensor.div_(size);
}

}  // namespace

MpiBackend::MpiBackend(int rank, int size, const MpiOptions& options)
    : Backend(rank, size),
      options_(options),
      engine_(MpiEngine::running()),
      comm_(std::make_shared<MPI_Comm>(MPI_COMM_NULL)) {
  if (engine_.rank() != rank || engine_.size() != size) {
    throw UsageError(fmt::format(
        "--backend mpi: rank {} of {} is rank {} of {} to MPI; start the ranks "
        "with mpirun -n {} PROGRAM --backend mpi",
        rank, size, engine_.rank(), engine_.size(), size));
  }
  // Its own name space for tags and collectives.
  auto work = c10::make_intrusive<FutureWork>(rank, OpType::UNKNOWN, Tensors{});
  engine_.submit({.start =
                      [comm = comm_](Requests& requests) {
                        requests.emplace_back();
                        mpi_check(MPI_Comm_idup(MPI_COMM_WORLD, comm.get(),
                                                &requests.back()));
                      },
                  .finish = {},
                  .timeout = options_.timeout,
                  .work = work});
  work->wait();
}

// Local: a rank that closes its group first waits for nobody.
MpiBackend::~MpiBackend() {
  auto work =
      c10::make_intrusive<FutureWork>(rank_, OpType::UNKNOWN, Tensors{});
  engine_.submit({.start =
                      [comm = comm_](Requests&) {
                        if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm.get());
                      },
                  .finish = {},
                  .timeout = options_.timeout,
                  .work = work});
}

int MpiBackend::count(std::int64_t elements) const {
  if (elements > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(fmt::format(
        "{} elements: MPI's counts end at 2^31 - 1 here", elements));
  }
  return static_cast<int>(elements);
}

MpiBackend::WorkPtr MpiBackend::issue(OpType type, const Tensors& results,
                                      milliseconds timeout, Start start,
                                      Finish finish) {
  wait_for_stream(results);
  auto work = c10::make_intrusive<FutureWork>(rank_, type, results);
  FutureWork* const raw = work.get();
  const bool received = type == OpType::RECVANYSOURCE;
  engine_.submit(
      {.start = [comm = comm_, start = std::move(start)](
                    Requests& requests) { start(*comm, requests); },
       .finish =
           [raw, received, finish = std::move(finish)](const MPI_Status& last) {
             if (received) raw->set_source(last.MPI_SOURCE);
             if (finish) finish();
           },
       .timeout = timeout > milliseconds(0) ? timeout : options_.timeout,
       .work = work,
       .receives = received || type == OpType::RECV});
  return work;
}

MpiBackend::WorkPtr MpiBackend::broadcast(
    Tensors& tensors, const ::c10d::BroadcastOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  return issue(OpType::BROADCAST, tensors, options.timeout,
               [tensors, root, most = options_.most_elements](
                   MPI_Comm comm, Requests& requests) {
                 for (const at::Tensor& tensor : tensors) {
                   in_parts(tensor, most, [&](std::int64_t at, int n) {
                     requests.emplace_back();
                     mpi_check(MPI_Ibcast(bytes(tensor) + at, n,
                                          moving_type(tensor.scalar_type()),
                                          root, comm, &requests.back()));
                   });
                 }
               });
}

MpiBackend::WorkPtr MpiBackend::reduce_all(OpType type, const Tensors& tensors,
                                           const ::c10d::ReduceOp& op,
                                           milliseconds timeout) {
  for (const at::Tensor& t : tensors) check_reduction(t.scalar_type(), op);
  return issue(
      type, tensors, timeout,
      [tensors, op, most = options_.most_elements](MPI_Comm comm,
                                                   Requests& requests) {
        for (const at::Tensor& tensor : tensors) {
          const Reduction how = reduction(tensor.scalar_type(), op);
          in_parts(tensor, most, [&](std::int64_t at, int n) {
            requests.emplace_back();
            mpi_check(MPI_Iallreduce(MPI_IN_PLACE, bytes(tensor) + at, n,
                                     how.type, how.op, comm, &requests.back()));
          });
        }
      },
      [tensors, op, size = size_] { divide(tensors, op, size); });
}

MpiBackend::WorkPtr MpiBackend::allreduce(
    Tensors& tensors, const ::c10d::AllreduceOptions& options) {
  return reduce_all(OpType::ALLREDUCE, tensors, options.reduceOp,
                    options.timeout);
}

MpiBackend::WorkPtr MpiBackend::allreduce_coalesced(
    Tensors& tensors, const ::c10d::AllreduceCoalescedOptions& options) {
  return reduce_all(OpType::ALLREDUCE_COALESCED, tensors, options.reduceOp,
                    options.timeout);
}

MpiBackend::WorkPtr MpiBackend::reduce(Tensors& tensors,
                                       const ::c10d::ReduceOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  const ::c10d::ReduceOp op = options.reduceOp;
  const bool here = root == rank_;
  for (const at::Tensor& t : tensors) check_reduction(t.scalar_type(), op);
  return issue(
      OpType::REDUCE, tensors, options.timeout,
      [tensors, op, root, here, most = options_.most_elements](
          MPI_Comm comm, Requests& requests) {
        for (const at::Tensor& tensor : tensors) {
          const Reduction how = reduction(tensor.scalar_type(), op);
          in_parts(tensor, most, [&](std::int64_t at, int n) {
            char* const data = bytes(tensor) + at;
            requests.emplace_back();
            mpi_check(MPI_Ireduce(here ? MPI_IN_PLACE : data,
                                  here ? data : nullptr, n, how.type, how.op,
                                  root, comm, &requests.back()));
          });
        }
      },
      [tensors, op, here, size = size_] {
        if (here) divide(tensors, op, size);
      });
}

MpiBackend::WorkPtr MpiBackend::gather_all(OpType type, const Tensors& outputs,
                                           const Tensors& inputs,
                                           milliseconds timeout,
                                           Finish finish) {
  for (const at::Tensor& output : outputs) count(output.numel());
  wait_for_stream(inputs);
  return issue(
      type, outputs, timeout,
      [outputs, inputs](MPI_Comm comm, Requests& requests) {
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          const MPI_Datatype moved = moving_type(inputs[i].scalar_type());
          const int n = static_cast<int>(inputs[i].numel());
          requests.emplace_back();
          mpi_check(MPI_Iallgather(bytes(inputs[i]), n, moved,
                                   bytes(outputs[i]), n, moved, comm,
                                   &requests.back()));
        }
      },
      std::move(finish));
}

MpiBackend::WorkPtr MpiBackend::allgather(
    TensorLists& outputs, Tensors& inputs,
    const ::c10d::AllgatherOptions& options) {
  Tensors rooms;
  for (const at::Tensor& in : inputs) rooms.push_back(room_for_all(in, size_));
  return gather_all(OpType::ALLGATHER, rooms, inputs, options.timeout,
                    [rooms, outputs] {
                      for (std::size_t i = 0; i < rooms.size(); ++i) {
                        copy_parts(rooms[i], outputs[i]);
                      }
                    });
}

MpiBackend::WorkPtr MpiBackend::_allgather_base(
    at::Tensor& output, at::Tensor& input,
    const ::c10d::AllgatherOptions& options) {
  return gather_all(OpType::_ALLGATHER_BASE, {output}, {input},
                    options.timeout);
}

MpiBackend::WorkPtr MpiBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs,
    const ::c10d::AllgatherOptions& options) {
  return gather_all(OpType::COALESCED, outputs, inputs, options.timeout);
}

MpiBackend::WorkPtr MpiBackend::gather(TensorLists& outputs, Tensors& inputs,
                                       const ::c10d::GatherOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  const bool here = root == rank_;
  const at::Tensor input = inputs[0];
  const at::Tensor room = here ? room_for_all(input, size_) : at::Tensor();
  count(size_ * input.numel());
  wait_for_stream(inputs);
  return issue(
      OpType::GATHER, here ? outputs[0] : Tensors{}, options.timeout,
      [input, room, root](MPI_Comm comm, Requests& requests) {
        const MPI_Datatype moved = moving_type(input.scalar_type());
        const int n = static_cast<int>(input.numel());
        requests.emplace_back();
        mpi_check(MPI_Igather(bytes(input), n, moved,
                              room.defined() ? bytes(room) : nullptr, n, moved,
                              root, comm, &requests.back()));
      },
      [room, outputs] {
        if (room.defined()) copy_parts(room, outputs[0]);
      });
}

MpiBackend::WorkPtr MpiBackend::scatter(Tensors& outputs, TensorLists& inputs,
                                        const ::c10d::ScatterOptions& options) {
  const int root = static_cast<int>(options.rootRank);
  const at::Tensor all = root == rank_ ? joined(inputs[0]) : at::Tensor();
  count(size_ * outputs[0].numel());
  if (all.defined()) wait_for_stream({all});
  return issue(
      OpType::SCATTER, outputs, options.timeout,
      [output = outputs[0], all, root](MPI_Comm comm, Requests& requests) {
        const MPI_Datatype moved = moving_type(output.scalar_type());
        const int n = static_cast<int>(output.numel());
        requests.emplace_back();
        mpi_check(MPI_Iscatter(all.defined() ? bytes(all) : nullptr, n, moved,
                               bytes(output), n, moved, root, comm,
                               &requests.back()));
      });
}

MpiBackend::WorkPtr MpiBackend::scatter_sums(OpType type,
                                             const Tensors& outputs,
                                             const Tensors& inputs,
                                             const ::c10d::ReduceOp& op,
                                             milliseconds timeout) {
  for (const at::Tensor& input : inputs) {
    check_reduction(input.scalar_type(), op);
    count(input.numel());
  }
  wait_for_stream(inputs);
  return issue(
      type, outputs, timeout,
      [outputs, inputs, op](MPI_Comm comm, Requests& requests) {
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          const Reduction how = reduction(inputs[i].scalar_type(), op);
          requests.emplace_back();
          mpi_check(MPI_Ireduce_scatter_block(
              bytes(inputs[i]), bytes(outputs[i]),
              static_cast<int>(outputs[i].numel()), how.type, how.op, comm,
              &requests.back()));
        }
      },
      [outputs, op, size = size_] { divide(outputs, op, size); });
}

MpiBackend::WorkPtr MpiBackend::reduce_scatter(
    Tensors& outputs, TensorLists& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  Tensors flat;
  for (const Tensors& list : inputs) flat.push_back(joined(list));
  return scatter_sums(OpType::REDUCE_SCATTER, outputs, flat, options.reduceOp,
                      options.timeout);
}

MpiBackend::WorkPtr MpiBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input,
    const ::c10d::ReduceScatterOptions& options) {
  return scatter_sums(OpType::_REDUCE_SCATTER_BASE, {output}, {input},
                      options.reduceOp, options.timeout);
}

MpiBackend::WorkPtr MpiBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs,
    const ::c10d::ReduceScatterOptions& options) {
  return scatter_sums(OpType::COALESCED, outputs, inputs, options.reduceOp,
                      options.timeout);
}

MpiBackend::WorkPtr MpiBackend::exchange(OpType type, const at::Tensor& output,
                                         const at::Tensor& input,
                                         const Splits& output_rows,
                                         const Splits& input_rows,
                                         milliseconds timeout, Finish finish) {
  // What MPI reads while the operation is under way.
  struct Parts {
    std::vector<int> counts, starts;
  };
  const auto parts_of = [&](const at::Tensor& tensor, const Splits& splits) {
    const std::int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
    const std::int64_t row = rows == 0 ? 0 : tensor.numel() / rows;
    count(tensor.numel());
    Parts parts;
    int start = 0;
    for (int r = 0; r < size_; ++r) {
      const std::int64_t n = splits.empty() ? rows / size_ : splits[r];
      parts.counts.push_back(static_cast<int>(n * row));
      parts.starts.push_back(start);
      start += parts.counts.back();
    }
    return std::make_shared<Parts>(std::move(parts));
  };
  const auto out = parts_of(output, output_rows);
  const auto in = parts_of(input, input_rows);
  wait_for_stream({input});
  return issue(
      type, {output}, timeout,
      [output, input, out, in](MPI_Comm comm, Requests& requests) {
        const MPI_Datatype moved = moving_type(input.scalar_type());
        requests.emplace_back();
        mpi_check(MPI_Ialltoallv(bytes(input), in->counts.data(),
                                 in->starts.data(), moved, bytes(output),
                                 out->counts.data(), out->starts.data(), moved,
                                 comm, &requests.back()));
      },
      std::move(finish));
}

MpiBackend::WorkPtr MpiBackend::alltoall_base(
    at::Tensor& output, at::Tensor& input, Splits& output_splits,
    Splits& input_splits, const ::c10d::AllToAllOptions& options) {
  return exchange(OpType::ALLTOALL_BASE, output, input, output_splits,
                  input_splits, options.timeout);
}

MpiBackend::WorkPtr MpiBackend::alltoall(
    Tensors& outputs, Tensors& inputs, const ::c10d::AllToAllOptions& options) {
  const Splits out = lengths(outputs);
  const at::Tensor all = joined(inputs);
  const at::Tensor room =
      at::empty({std::accumulate(out.begin(), out.end(), std::int64_t{0})},
                outputs[0].options());
  return exchange(OpType::ALLTOALL, room, all, out, lengths(inputs),
                  options.timeout,
                  [room, outputs] { copy_parts(room, outputs); });
}

MpiBackend::WorkPtr MpiBackend::send(Tensors& tensors, int peer, int tag) {
  return issue(OpType::SEND, tensors, options_.timeout,
               [tensors, peer, tag, most = options_.most_elements](
                   MPI_Comm comm, Requests& requests) {
                 for (const at::Tensor& tensor : tensors) {
                   in_parts(tensor, most, [&](std::int64_t at, int n) {
                     requests.emplace_back();
                     mpi_check(MPI_Isend(bytes(tensor) + at, n,
                                         moving_type(tensor.scalar_type()),
                                         peer, tag, comm, &requests.back()));
                   });
                 }
               });
}

MpiBackend::WorkPtr MpiBackend::recv(Tensors& tensors, int peer, int tag) {
  return issue(OpType::RECV, tensors, options_.timeout,
               [tensors, peer, tag, most = options_.most_elements](
                   MPI_Comm comm, Requests& requests) {
                 for (const at::Tensor& tensor : tensors) {
                   in_parts(tensor, most, [&](std::int64_t at, int n) {
                     requests.emplace_back();
                     mpi_check(MPI_Irecv(bytes(tensor) + at, n,
                                         moving_type(tensor.scalar_type()),
                                         peer, tag, comm, &requests.back()));
                   });
                 }
               });
}

// Of one part only: the parts of two senders would mix.
MpiBackend::WorkPtr MpiBackend::recvAnysource(Tensors& tensors, int tag) {
  count(tensors[0].numel());
  return issue(
      OpType::RECVANYSOURCE, {tensors[0]}, options_.timeout,
      [tensor = tensors[0], tag](MPI_Comm comm, Requests& requests) {
        requests.emplace_back();
        mpi_check(MPI_Irecv(bytes(tensor), static_cast<int>(tensor.numel()),
                            moving_type(tensor.scalar_type()), MPI_ANY_SOURCE,
                            tag, comm, &requests.back()));
      });
}

MpiBackend::WorkPtr MpiBackend::barrier(const ::c10d::BarrierOptions& options) {
  return issue(OpType::BARRIER, {}, options.timeout,
               [](MPI_Comm comm, Requests& requests) {
                 requests.emplace_back();
                 mpi_check(MPI_Ibarrier(comm, &requests.back()));
               });
}

}  // namespace dai
