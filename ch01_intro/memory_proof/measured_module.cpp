// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory_proof/measured_module.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ch01_intro/memory/memory_ledger.h"
#include "common/report.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;

// One forward, and one backward where somebody asks for a gradient.
bool run_step(ScriptModule& module, const std::vector<at::Tensor>& inputs,
              MemoryLedger& ledger) {
  for (const ModuleTensor& item : module.tensors()) {
    at::Tensor tensor = item.tensor;
    if (item.is_parameter) tensor.mutable_grad().reset();
  }
  at::Tensor loss;
  {
    MemoryPhase phase(&ledger, "forward", /*saves=*/true);
    loss = module.loss(inputs);
  }
  if (!loss.requires_grad()) return false;
  MemoryPhase phase(&ledger, "backward");
  loss.backward();
  loss.reset();
  return true;
}

}  // namespace

MeasuredModule measure_module(const std::string& path,
                              const std::vector<InputSpec>& specs,
                              std::int64_t steps, std::uint64_t seed) {
  MeasuredModule measured;
  measured.file = module_file_bytes(path);

  MemoryLedger ledger;
  ScriptModule module = ScriptModule::load(path, at::kCPU);
  measured.loaded_bytes = ledger.live_bytes();
  const std::vector<at::Tensor> inputs = make_inputs(specs, seed, at::kCPU);
  for (const ModuleTensor& item : module.tensors()) {
    ledger.claim(item.tensor, item.is_parameter ? C::kParameters : C::kBuffers);
  }
  for (const at::Tensor& input : inputs) ledger.claim(input, C::kBuffers);
  // TorchScript compiles during its first two runs.
  for (std::int64_t i = 0; i < std::max<std::int64_t>(steps, 3); ++i) {
    measured.has_backward = run_step(module, inputs, ledger);
    for (const ModuleTensor& item : module.tensors()) {
      if (item.is_parameter) ledger.claim(item.tensor.grad(), C::kGradients);
    }
    measured.after_step.push_back(ledger.live_bytes());
  }
  measured.report = ledger.report(150);
  measured.live = ledger.live_bytes();
  for (const MemoryReport::Phase& phase : measured.report.phases) {
    if (phase.name == "forward") {
      measured.activations = phase.at_end[C::kActivations];
    }
  }
  measured.gradients = measured.report.at_end[C::kGradients];
  std::set<const void*> seen;  // one tensor may have two names
  for (const auto& [name, is_parameter, tensor] : module.tensors()) {
    if (!tensor.requires_grad()) continue;
    if (!seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    measured.trainable += static_cast<std::int64_t>(tensor.nbytes());
  }
  return measured;
}

std::string MeasuredModule::to_string() const {
  const auto row = [](Table& table, const char* what, std::int64_t predicted,
                      std::int64_t bytes) {
    table.add_row({what, fmt::format("{}", predicted), fmt::format("{}", bytes),
                   fmt::format("{}", bytes - predicted)});
  };
  Table states({"category", "predicted bytes", "measured", "difference"});
  row(states, "parameters, buffers, constants: from the file alone",
      file.states + file.constants, loaded_bytes);
  row(states, "gradients: of parameters that ask for one",
      has_backward ? trainable : 0, gradients);
  Table rest({"measured only", "bytes"});
  rest.add_row({has_backward ? "activations: alive at the end of forward"
                             : "activations: none, nothing asks for a gradient",
                fmt::format("{}", activations)});
  const std::size_t last = report.phases.size() - (has_backward ? 2 : 1);
  for (std::size_t i = last; i < report.phases.size(); ++i) {
    rest.add_row({"peak of " + report.phases[i].name,
                  fmt::format("{}", report.phases[i].peak.total())});
  }
  return states.to_string() + "\n" + rest.to_string();
}

}  // namespace dai::intro
