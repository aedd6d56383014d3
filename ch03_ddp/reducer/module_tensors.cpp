// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/module_tensors.h"

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <set>

namespace dai::ddp {

namespace {

bool is_sparse(const torch::nn::Module& module) {
  const auto* const embedding = module.as<torch::nn::EmbeddingImpl>();
  return embedding != nullptr && embedding->options.sparse();
}

}  // namespace

ModelTensors tensors_of(const torch::nn::Module& module) {
  ModelTensors model;
  model.name = module.name();
  std::set<const c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters()) {
    if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    model.parameters.push_back({item.key(), item.value()});
  }
  for (const auto& item : module.named_buffers()) {
    model.buffers.push_back({item.key(), item.value()});
  }
  if (is_sparse(module)) model.sparse.insert("weight");
  // Without itself, which then need not live in a shared_ptr.
  for (const auto& item : module.named_modules("", /*include_self=*/false)) {
    if (is_sparse(*item.value())) model.sparse.insert(item.key() + ".weight");
  }
  return model;
}

}  // namespace dai::ddp
