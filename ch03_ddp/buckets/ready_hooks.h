// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tells when a parameter's gradient is complete: autograd ends each backward
// pass at a parameter with one AccumulateGrad node, however often the model
// uses the parameter, and what is hooked behind that node runs right after
// .grad has received its share, while backward goes on with earlier layers.
//
//   ReadyHooks hooks(parameters, [&](std::size_t i) { send(i); });
//   loss.backward();   // calls send(i) once for each parameter it reaches
//
// Called from the thread that runs backward: on the CPU the one that called
// backward(), on CUDA autograd's thread of the device. What the callback throws
// leaves backward(). Frozen parameters have no gradient, and no call.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::ddp {

class ReadyHooks {
 public:
  using OnReady = std::function<void(std::size_t parameter)>;

  ReadyHooks(const std::vector<intro::NamedParameter>& parameters,
             OnReady on_ready);
  ~ReadyHooks();
  ReadyHooks(const ReadyHooks&) = delete;
  ReadyHooks& operator=(const ReadyHooks&) = delete;

 private:
  struct Hooked;
  std::vector<Hooked> hooked_;
};

}  // namespace dai::ddp
