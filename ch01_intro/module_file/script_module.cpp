// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/module_file/script_module.h"

#include <ATen/ops/mean.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <utility>

#include "common/errors.h"

namespace dai::intro {
namespace {

using caffe2::serialize::PyTorchStreamReader;

// PyTorch's messages run over many lines, and end in a C++ backtrace.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text.substr(0, text.find("\nException raised from"))) {
    const bool blank = c == '\n' || c == ' ' || c == '\t';
    if (!blank) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line.size() > 300 ? line.substr(0, 300) + " ..." : line;
}

std::string reason(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return one_line(torch ? torch->what_without_backtrace() : error.what());
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw UsageError(fmt::format("module {}: {}", path, why));
}

// What is not a zip archive at all, by its first bytes.
void check_beginning(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) refuse(path, "no such file");
  if (!std::filesystem::is_regular_file(status)) refuse(path, "not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(path, "cannot be opened for reading");
  std::string head(8, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(file.gcount()));
  if (head.empty()) refuse(path, "an empty file, TorchScript is expected");
  if (head.starts_with("PK")) return;
  refuse(path, head.starts_with("\x80\x02")
                   ? "a pickle: torch.save wrote it before PyTorch 1.6. It "
                     "holds no code; save torch.jit.script(model) instead"
                   : "not a TorchScript archive: its first bytes are not a "
                     "zip file's. torch.jit.save writes what is expected");
}

PyTorchStreamReader open_archive(const std::string& path) {
  check_beginning(path);
  try {
    return PyTorchStreamReader(path);
  } catch (const std::exception& error) {
    const std::string why = reason(error);
    refuse(path, why.find("maximum supported version") == std::string::npos
                     ? "damaged or truncated: " + why
                     : "written by a newer PyTorch: " + why);
  }
}

// A torch.save checkpoint and a torch.export program are zip archives too.
void check_contents(const std::string& path, PyTorchStreamReader& archive) {
  const std::vector<std::string> records = archive.getAllRecords();
  const auto any = [&](auto test) {
    return std::any_of(records.begin(), records.end(), test);
  };
  const bool has_code =
      any([](const std::string& r) { return r.starts_with("code/"); });
  if (has_code && archive.hasRecord("data.pkl")) return;
  if (archive.hasRecord("data.pkl")) {
    refuse(path,
           "a checkpoint of torch.save: weights without code. Save "
           "torch.jit.script(model) or torch.jit.trace(model, ...) instead");
  }
  if (any([](const std::string& r) {
        return r.find("archive_format") != std::string::npos ||
               r.ends_with(".ptg") || r.starts_with("models/");
      })) {
    refuse(path,
           "a program of torch.export, which LibTorch cannot run without "
           "Python. torch.jit.save writes what is expected");
  }
  refuse(path, "a zip file, but no TorchScript archive: no code/ and data.pkl");
}

void collect(const c10::IValue& value, std::vector<at::Tensor>& found) {
  if (value.isTensor()) {
    if (value.toTensor().defined() && value.toTensor().is_floating_point()) {
      found.push_back(value.toTensor());
    }
  } else if (value.isTuple()) {
    for (const auto& item : value.toTupleRef().elements()) collect(item, found);
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) collect(item, found);
  } else if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict()) {
      collect(item.value(), found);
    }
  }
}

}  // namespace

struct ScriptModule::Impl {
  torch::jit::Module module;
};

ModuleFileBytes module_file_bytes(const std::string& path) {
  PyTorchStreamReader archive = open_archive(path);
  check_contents(path, archive);
  ModuleFileBytes bytes;
  for (const std::string& record : archive.getAllRecords()) {
    // data/0, constants/3: one record a storage.
    const bool is_state = record.starts_with("data/");
    if (!is_state && !record.starts_with("constants/")) continue;
    const auto size = static_cast<std::int64_t>(archive.getRecordSize(record));
    (is_state ? bytes.states : bytes.constants) += size;
    ++bytes.storages;
  }
  return bytes;
}

ScriptModule ScriptModule::load(const std::string& path, at::Device device) {
  {
    PyTorchStreamReader archive = open_archive(path);
    check_contents(path, archive);
  }
  ScriptModule loaded;
  loaded.path_ = path;
  try {
    // Without debug files: they would stay in memory beside the weights.
    loaded.impl_ = std::make_shared<Impl>(
        Impl{torch::jit::load(path, device, /*load_debug_files=*/false)});
  } catch (const std::exception& error) {
    refuse(path, "cannot be loaded: " + reason(error));
  }
  if (!loaded.impl_->module.find_method("forward")) {
    refuse(path, "the module has no forward()");
  }
  for (const auto& [name, tensor] : loaded.impl_->module.named_parameters()) {
    loaded.tensors_.push_back({name, true, tensor});
  }
  for (const auto& [name, tensor] : loaded.impl_->module.named_buffers()) {
    loaded.tensors_.push_back({name, false, tensor});
  }
  return loaded;
}

std::int64_t ScriptModule::storage_bytes() const {
  std::set<const void*> seen;
  std::int64_t bytes = 0;
  for (const ModuleTensor& item : tensors_) {
    const c10::Storage& storage = item.tensor.storage();
    if (seen.insert(storage.unsafeGetStorageImpl()).second) {
      bytes += static_cast<std::int64_t>(storage.nbytes());
    }
  }
  return bytes;
}

at::Tensor ScriptModule::loss(const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> outputs;
  try {
    collect(impl_->module.forward({inputs.begin(), inputs.end()}), outputs);
  } catch (const std::exception& error) {
    refuse(path_,
           "forward fails on these inputs (--input-shape): " + reason(error));
  }
  at::Tensor loss;
  for (const at::Tensor& output : outputs) {
    const at::Tensor mean = output.mean(at::kFloat);
    loss = loss.defined() ? loss + mean : mean;
  }
  if (!loss.defined()) {
    refuse(path_, "forward returns no floating-point tensor to take a loss of");
  }
  return loss;
}

}  // namespace dai::intro
