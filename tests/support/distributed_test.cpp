// SPDX-License-Identifier: Apache-2.0
#include "tests/support/distributed_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "common/errors.h"
#include "common/log.h"
#include "common/torch/device.h"

namespace dai::testing {
namespace {

std::optional<LaunchContext> the_launch;
std::unique_ptr<ProcessGroup> the_group;
bool cuda_needed = false;
bool ends_by_exit = false;  // MPI is finalised there, and mpirun wants that

// What another rank than 0 has to say: its failures, with its number.
// It remembers the test: asking GoogleTest for it from OnTestPartResult would
// wait for a lock that the caller holds.
class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo& test) override {
    test_ = std::string(test.test_suite_name()) + "." + test.name();
  }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %d/%d] %s %s:%d: %s\n", the_launch->rank,
                 the_launch->world_size, test_.c_str(),
                 result.file_name() ? result.file_name() : "",
                 result.line_number(), result.message());
  }
  std::string test_;
};

int run(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  the_launch = launch_context_from_environment();
  init_log(the_launch->rank, the_launch->world_size);
  if (the_launch->rank != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  DistributedOptions options;
  const char* const backend = std::getenv("DAI_TEST_BACKEND");
  options.backend = backend ? backend : "gloo";
  options.timeout_s = 20;
  const auto preflight = [] {
    if (!cuda_needed) return;
    // Before NCCL reads it, and before choose_device() counts devices.
    setenv("NCCL_HOSTID", std::to_string(the_launch->rank).c_str(), 1);
    choose_device("cuda", *the_launch);
  };
  the_group = std::make_unique<ProcessGroup>(
      ProcessGroup::connect(*the_launch, options, preflight));
  const int code = RUN_ALL_TESTS();
  ends_by_exit = the_group->backend_name() == "mpi" && code == 0;
  the_group->shutdown();
  return code;
}

}  // namespace

ProcessGroup& group() {
  return *the_group;
}
const LaunchContext& launch() {
  return *the_launch;
}
bool need_cuda() {
  return cuda_needed = true;
}

}  // namespace dai::testing

// Ends by _Exit: after a failed collective, threads of the backend may hang in
// static teardown, and the verdict must not depend on that.
int main(int argc, char** argv) {
  int code = dai::kExitFailed;
  try {
    code = dai::testing::run(argc, argv);
  } catch (const dai::Unavailable& e) {
    std::fprintf(stderr, "cannot run here: %s\n", e.what());
    code = dai::kExitUnavailable;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  std::fflush(nullptr);
  if (dai::testing::ends_by_exit) std::exit(code);
  std::_Exit(code);
}
