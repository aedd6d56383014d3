// SPDX-License-Identifier: Apache-2.0
#include "common/torch/cuda/nccl_communicator.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/cuda/cuda_check.h"
#include "common/torch/cuda/nccl_check.h"

namespace dai {
namespace {

using Clock = std::chrono::steady_clock;

// Between two looks at a communicator's or a stream's state.
constexpr auto kPoll = std::chrono::microseconds(50);

const char* advice(ncclResult_t code) {
  switch (code) {
    case ncclUnhandledCudaError:
      return "a CUDA call inside NCCL failed";
    case ncclSystemError:
      return "NCCL_DEBUG=WARN names the system call";
    case ncclInvalidUsage:
      return "do two ranks use one GPU?";
    case ncclRemoteError:
      return "a peer died";
    default:
      return "NCCL_DEBUG=WARN says more";
  }
}

}  // namespace

void check_nccl(ncclResult_t code, const char* call, const char* file, int line,
                ncclComm_t communicator) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  std::string detail = ncclGetLastError(communicator);
  detail = detail.substr(0, detail.find('\n'));
  throw std::runtime_error(fmt::format(
      "{}:{}: {}: {}{}{}: {}", file, line, call, ncclGetErrorString(code),
      detail.empty() ? "" : ", ", detail, advice(code)));
}

NcclCommunicator::NcclCommunicator(::c10d::Store& store,
                                   const std::string& name, int rank, int size,
                                   int device,
                                   std::chrono::milliseconds timeout)
    : timeout_(timeout), rank_(rank) {
  const std::string key = "nccl/" + name;
  ncclUniqueId id;
  std::vector<std::uint8_t> bytes(sizeof(id));
  if (rank == 0) {
    DAI_NCCL_CHECK(ncclGetUniqueId(&id));
    std::memcpy(bytes.data(), &id, sizeof(id));
    store.set(key, bytes);
  } else {
    store.wait({key}, timeout);
    bytes = store.get(key);
    std::memcpy(&id, bytes.data(), sizeof(id));
  }
  DAI_CUDA_CHECK(cudaSetDevice(device));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    DAI_NCCL_CHECK(
        ncclCommInitRankConfig(&communicator_, size, id, rank, &config));
    wait_ready("forming the communicator");
  } catch (...) {
    // No destructor runs for an object that was not built.
    if (communicator_) ncclCommAbort(communicator_);
    throw;
  }
}

NcclCommunicator::~NcclCommunicator() {
  if (!communicator_) return;
  // Finalize waits for the peers; do not when this rank is on its way out.
  if (failed_ || std::uncaught_exceptions() > 0) {
    ncclCommAbort(communicator_);
    return;
  }
  try {
    DAI_NCCL_CHECK(ncclCommFinalize(communicator_));
    wait_ready("closing the communicator");
    ncclCommDestroy(communicator_);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    ncclCommAbort(communicator_);
  }
}

void NcclCommunicator::fail(const std::string& why) {
  failed_ = true;
  throw std::runtime_error(fmt::format("NCCL on rank {}: {}", rank_, why));
}

void NcclCommunicator::wait_ready(const char* what) {
  const auto deadline = Clock::now() + timeout_;
  ncclResult_t state = ncclInProgress;
  while (true) {
    DAI_NCCL_CHECK(ncclCommGetAsyncError(communicator_, &state));
    if (state == ncclSuccess) return;
    if (state != ncclInProgress) {
      fail(fmt::format("{}: {}: {}", what, ncclGetErrorString(state),
                       advice(state)));
    }
    if (Clock::now() >= deadline) {
      fail(fmt::format("{}: timed out after {} s", what,
                       std::chrono::duration<double>(timeout_).count()));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

void NcclCommunicator::synchronize(cudaStream_t stream) {
  wait_ready("enqueueing");  // non-blocking calls may still be on their way
  const auto deadline = Clock::now() + timeout_;
  while (true) {
    const cudaError_t state = cudaStreamQuery(stream);
    if (state == cudaSuccess) return;
    if (state != cudaErrorNotReady) DAI_CUDA_CHECK(state);
    check_async("a collective");
    if (Clock::now() >= deadline) {
      fail(
          fmt::format("a collective timed out after {} s: is a rank stopped, "
                      "dead or in another collective?",
                      std::chrono::duration<double>(timeout_).count()));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

void NcclCommunicator::check_async(const char* what) {
  ncclResult_t state = ncclSuccess;
  DAI_NCCL_CHECK(ncclCommGetAsyncError(communicator_, &state));
  if (state != ncclSuccess && state != ncclInProgress) {
    fail(fmt::format("{}: {}: {}", what, ncclGetErrorString(state),
                     advice(state)));
  }
}

}  // namespace dai
