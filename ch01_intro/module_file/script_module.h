// SPDX-License-Identifier: Apache-2.0
#pragma once

// A reader's own model in our tools: a TorchScript file, as torch.jit.save (or
// Module::save in C++) writes it. TorchScript is PyTorch's legacy format; it is
// the one that LibTorch can run without Python. A TorchScript file holds code,
// which loading compiles and forward runs: load what you trust.
//
//   ModuleFileBytes before = module_file_bytes("model.pt");  // loads nothing
//   ScriptModule module = ScriptModule::load("model.pt", at::kCPU);
//   auto inputs = make_inputs(parse_input_shapes("8x128:int64:50257"), 1234,
//                             at::kCPU);                       // input_spec.h
//   module.loss(inputs).backward();
//
// Errors: UsageError of one line that names the file and says what it is: no
// such file, a truncated archive, a checkpoint without code, another format, a
// file of a newer PyTorch, an operator that this build does not have, inputs
// that forward does not take. As in PyTorch, a flipped bit inside a weight goes
// unnoticed.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dai::intro {

// From the archive's directory alone. A storage that several tensors share
// stands there once, so these are the bytes that the loaded module holds.
struct ModuleFileBytes {
  std::int64_t states = 0;     // parameters and buffers
  std::int64_t constants = 0;  // tensors that the code itself contains
  std::int64_t storages = 0;   // how many
};
ModuleFileBytes module_file_bytes(const std::string& path);

struct ModuleTensor {
  std::string name;  // "encoder.weight"
  bool is_parameter = true;
  at::Tensor tensor;
};

class ScriptModule {
 public:
  static ScriptModule load(const std::string& path, at::Device device);

  // Parameters, then buffers, each in the module's order. A parameter under
  // two names is listed twice, with one storage.
  const std::vector<ModuleTensor>& tensors() const { return tensors_; }
  // Bytes of the distinct storages behind them.
  std::int64_t storage_bytes() const;

  // One number out of whatever forward returns (a tensor, or tuples, lists and
  // dictionaries of them): the sum of the means of all floating-point tensors.
  // It has a gradient when the file's parameters ask for one (frozen ones do
  // not). Throws UsageError where there is no such tensor.
  at::Tensor loss(const std::vector<at::Tensor>& inputs);

 private:
  struct Impl;
  std::string path_;
  std::shared_ptr<Impl> impl_;
  std::vector<ModuleTensor> tensors_;
};

}  // namespace dai::intro
