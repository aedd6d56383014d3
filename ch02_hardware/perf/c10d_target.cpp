// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/c10d_target.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <stdexcept>

#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::hardware {
namespace {

using Tensors = std::vector<at::Tensor>;

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kFloat64:
      return at::kDouble;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kInt32:
      return at::kInt;
    case DType::kInt64:
      return at::kLong;
    case DType::kBool:
      return at::kBool;
    case DType::kInt8:
      return at::kChar;
    case DType::kUInt8:
      return at::kByte;
    case DType::kInt16:
      return at::kShort;
  }
  throw std::invalid_argument("unknown dtype");
}

::c10d::ReduceOp c10d_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ::c10d::ReduceOp::SUM;
    case ReduceOp::kAvg:
      return ::c10d::ReduceOp::AVG;
    case ReduceOp::kMin:
      return ::c10d::ReduceOp::MIN;
    case ReduceOp::kMax:
      return ::c10d::ReduceOp::MAX;
    case ReduceOp::kProduct:
      return ::c10d::ReduceOp::PRODUCT;
  }
  throw std::invalid_argument("unknown reduction");
}

class C10dTarget final : public CollectiveTarget {
 public:
  explicit C10dTarget(ProcessGroup& group) : group_(group) {}

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  std::string description() const override { return group_.description(); }

  bool offers(Collective what, bool in_place) const override {
    switch (what) {
      case Collective::kAllReduce:
      case Collective::kReduce:
      case Collective::kBroadcast:
      case Collective::kBarrier:
        return in_place;
      default:
        return !in_place;
    }
  }

  void* allocate(std::size_t bytes) override {
    buffers_.push_back(at::empty({static_cast<std::int64_t>(bytes)},
                                 at::dtype(at::kByte).device(group_.device())));
    return buffers_.back().data_ptr();
  }
  void release() override { buffers_.clear(); }
  void write(void* to, const void* from, std::size_t bytes) override {
    on_device(to, bytes).copy_(on_host(const_cast<void*>(from), bytes));
  }
  void read(void* to, const void* from, std::size_t bytes) override {
    on_host(to, bytes).copy_(on_device(const_cast<void*>(from), bytes));
  }
  void settle() override {
    if (group_.device().is_cpu()) return;
    const c10::impl::VirtualGuardImpl device(group_.device().type());
    device.synchronizeStream(device.getStream(group_.device()));
  }

  void run(Collective what, const Operands& o) override {
    auto& group = *group_.c10d();
    const auto n = static_cast<std::int64_t>(o.count);
    const std::int64_t all = n * size();
    const auto tensor = [&](const void* at, std::int64_t elements) {
      return at::from_blob(
          const_cast<void*>(at), {elements},
          at::dtype(scalar_type(o.dtype)).device(group_.device()));
    };
    const auto parts = [&](const void* at) {
      Tensors list;
      for (int r = 0; r < size(); ++r) {
        list.push_back(
            tensor(static_cast<const std::byte*>(at) + r * o.bytes(), n));
      }
      return list;
    };
    switch (what) {
      case Collective::kAllReduce: {
        Tensors one{tensor(o.output, n)};
        group.allreduce(one, {.reduceOp = c10d_op(o.op)})->wait();
        return;
      }
      case Collective::kReduce: {
        Tensors one{tensor(o.output ? o.output : o.input, n)};
        ::c10d::ReduceOptions options;
        options.reduceOp = c10d_op(o.op);
        options.rootRank = o.root;
        group.reduce(one, options)->wait();
        return;
      }
      case Collective::kBroadcast: {
        Tensors one{tensor(o.output, n)};
        group.broadcast(one, {.rootRank = o.root})->wait();
        return;
      }
      case Collective::kAllGather: {
        at::Tensor out = tensor(o.output, all), in = tensor(o.input, n);
        group._allgather_base(out, in)->wait();
        return;
      }
      case Collective::kReduceScatter: {
        at::Tensor out = tensor(o.output, n), in = tensor(o.input, all);
        ::c10d::ReduceScatterOptions options;
        options.reduceOp = c10d_op(o.op);
        group._reduce_scatter_base(out, in, options)->wait();
        return;
      }
      case Collective::kGather: {
        Tensors one{tensor(o.input, n)};
        std::vector<Tensors> out;
        if (rank() == o.root) out.push_back(parts(o.output));
        group.gather(out, one, {.rootRank = o.root})->wait();
        return;
      }
      case Collective::kScatter: {
        Tensors one{tensor(o.output, n)};
        std::vector<Tensors> in;
        if (rank() == o.root) in.push_back(parts(o.input));
        group.scatter(one, in, {.rootRank = o.root})->wait();
        return;
      }
      case Collective::kAllToAll: {
        at::Tensor out = tensor(o.output, all), in = tensor(o.input, all);
        std::vector<std::int64_t> equal;
        group.alltoall_base(out, in, equal, equal)->wait();
        return;
      }
      default:
        group.barrier()->wait();
    }
  }

  double sum(double mine) override { return reduced(mine, ReduceOp::kSum); }
  double largest(double mine) override { return reduced(mine, ReduceOp::kMax); }

 private:
  double reduced(double mine, ReduceOp op) {
    settle();
    at::Tensor one = at::empty({1}, at::dtype(at::kDouble));
    one.fill_(mine);
    one = one.to(group_.device());
    Tensors list{one};
    group_.c10d()->allreduce(list, {.reduceOp = c10d_op(op)})->wait();
    return list[0].item<double>();
  }
  at::Tensor on_device(void* at, std::size_t bytes) const {
    return at::from_blob(at, {static_cast<std::int64_t>(bytes)},
                         at::dtype(at::kByte).device(group_.device()));
  }
  static at::Tensor on_host(void* at, std::size_t bytes) {
    return at::from_blob(at, {static_cast<std::int64_t>(bytes)}, at::kByte);
  }

  ProcessGroup& group_;
  Tensors buffers_;
};

}  // namespace

std::unique_ptr<CollectiveTarget> c10d_target(ProcessGroup& group) {
  return std::make_unique<C10dTarget>(group);
}

}  // namespace dai::hardware
