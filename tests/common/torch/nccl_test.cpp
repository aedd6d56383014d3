// SPDX-License-Identifier: Apache-2.0

// NCCL under our classes. Ranks may share one GPU: each poses as a host of its
// own (NCCL_HOSTID), which makes NCCL go through sockets.

#include <ATen/Functions.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "common/torch/c10d_compat.h"
#include "common/torch/cuda/cuda_check.h"
#include "common/torch/cuda/nccl_check.h"
#include "common/torch/cuda/nccl_communicator.h"
#include "common/torch/cuda_library.h"
#include "common/torch/device.h"
#include "common/torch/observed_backend.h"
#include "tests/support/distributed_test.h"

namespace dai {
namespace {

using namespace std::chrono_literals;
using dai::testing::group;

const bool kNeedsCuda = dai::testing::need_cuda();

at::Device device() {
  return choose_device("cuda", dai::testing::launch());
}

TEST(NcclCommunicator, SumsOverRanks) {
  NcclCommunicator comm(*group().store(), "sum", group().rank(), group().size(),
                        device().index(), 60s);
  at::Tensor data = at::full({1 << 16}, group().rank() + 1.0,
                             at::TensorOptions().device(device()));
  const auto stream = c10::cuda::getCurrentCUDAStream().stream();
  DAI_NCCL_CHECK(ncclAllReduce(data.data_ptr(), data.data_ptr(), data.numel(),
                               ncclFloat, ncclSum, comm.get(), stream));
  comm.synchronize(stream);
  const double n = group().size();
  EXPECT_EQ(data.min().item<float>(), n * (n + 1) / 2);
  EXPECT_EQ(data.max().item<float>(), n * (n + 1) / 2);
}

TEST(NcclCheck, NamesFileCallAndMeaning) {
  try {
    DAI_NCCL_CHECK(ncclCommDestroy(reinterpret_cast<ncclComm_t>(8)));
    FAIL() << "no error";
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("nccl_test.cpp"), std::string::npos);
  }
}

TEST(CudaCheck, NamesFileCallAndMeaning) {
  try {
    DAI_CUDA_CHECK(cudaSetDevice(4096));
    FAIL() << "no error";
  } catch (const std::runtime_error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("nccl_test.cpp"), std::string::npos) << text;
    EXPECT_NE(text.find("cudaSetDevice(4096): invalid device ordinal"),
              std::string::npos)
        << text;
  }
}

class Ends : public CollectiveObserver {
 public:
  void on_end(const CollectiveEvent&, std::exception_ptr error) override {
    std::lock_guard lock(mutex_);
    ++(error ? failed_ : ended_);
    changed_.notify_all();
  }
  bool wait_for_end() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 30s, [&] { return ended_ == 1; }) &&
           failed_ == 0;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int ended_ = 0;
  int failed_ = 0;
};

TEST(NcclBackend, AllReduceIsObservedToItsEnd) {
  auto store =
      c10::make_intrusive<::c10d::PrefixStore>("nccl backend", group().store());
  auto backend = c10::make_intrusive<ObservedBackend>(
      load_cuda_library()->make_nccl_backend(
          store, group().rank(), group().size(), device().index(), 60s),
      at::kCUDA, "nccl", 60s);
  auto ends = std::make_shared<Ends>();
  backend->add_observer(ends);
  std::vector<at::Tensor> tensors{
      at::ones({1000}, at::TensorOptions().device(device()))};
  backend->allreduce(tensors, {})->wait();
  EXPECT_EQ(tensors[0].sum().item<float>(), 1000.0F * group().size());
  EXPECT_TRUE(ends->wait_for_end());
}

}  // namespace
}  // namespace dai
