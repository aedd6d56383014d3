// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every NCCL call in a DAI_NCCL_CHECK; see cuda_check.h. ncclInProgress is no
// error: a non-blocking communicator answers so, see NcclCommunicator.
//
//   DAI_NCCL_CHECK(ncclGetUniqueId(&id));

#include <nccl.h>

namespace dai {

// Throws std::runtime_error "x.cpp:31: ncclAllReduce(...): remote process
// exited ... : a peer died". `communicator` may be null.
void check_nccl(ncclResult_t code, const char* call, const char* file, int line,
                ncclComm_t communicator = nullptr);

}  // namespace dai

#define DAI_NCCL_CHECK(call) \
  ::dai::check_nccl((call), #call, __FILE__, __LINE__)
