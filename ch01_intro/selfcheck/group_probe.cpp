// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/selfcheck/group_probe.h"

#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/first_run/collective_check.h"
#include "ch01_intro/statistics/statistics.h"
#include "common/fnv1a.h"
#include "common/timer.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

std::string hash_of(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().cpu().contiguous();
  return fmt::format(
      "{:016x}",
      fnv1a({static_cast<const char*>(host.data_ptr()), host.nbytes()}));
}

// The word after `key` in PyTorch's build description, as far as `stop`.
std::string word_after(const std::string& text, const std::string& key) {
  const auto at = text.find(key);
  if (at == std::string::npos) return "";
  const auto begin = at + key.size();
  return text.substr(begin, text.find_first_of(", \n", begin) - begin);
}

double median_us(ProcessGroup& group, at::Tensor tensor, std::int64_t repeats) {
  std::vector<double> times;
  group.all_reduce(tensor);  // connections are made by the first
  for (std::int64_t i = 0; i < repeats; ++i) {
    tensor.zero_();
    group.barrier();
    const double begin = steady_us();
    group.all_reduce(tensor);
    // On CUDA it is the stream that waits; reading one value makes us wait.
    tensor.view(-1)[0].item<float>();
    times.push_back(steady_us() - begin);
  }
  return median(times);
}

}  // namespace

std::map<std::string, std::string> library_versions() {
  std::map<std::string, std::string> versions;
  const std::string build = at::show_config();
  // As loaded at run time; the headers' version is only what we compiled with.
  const std::string torch = word_after(build, "TORCH_VERSION=");
  versions["LibTorch"] = torch.empty() ? TORCH_VERSION : torch;
  const std::string cuda = word_after(build, "CUDA Runtime ");
  if (!cuda.empty()) versions["CUDA runtime"] = cuda;
  int version = 0;
  // Only if it is loaded already: asking must not load it.
  void* nccl = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD);
  void* ask = nccl ? dlsym(nccl, "ncclGetVersion") : nullptr;
  if (ask && reinterpret_cast<int (*)(int*)>(ask)(&version) == 0) {
    versions["NCCL"] = fmt::format("{}.{}.{}", version / 10000,
                                   version / 100 % 100, version % 100);
  }
  if (nccl) dlclose(nccl);
  return versions;
}

std::vector<std::pair<std::string, std::string>> bits_of_this_rank(
    ProcessGroup& group) {
  constexpr std::int64_t kSide = 96;  // many vectors, and a rest
  at::Tensor input = at::empty({kSide, kSide}, at::kFloat);
  const std::uint64_t stream = stream_key(1234, "selfcheck");
  for (std::int64_t i = 0; i < input.numel(); ++i) {
    input.data_ptr<float>()[i] =
        uniform01(stream, static_cast<std::uint64_t>(i)) * 2 - 1;
  }
  input = input.to(group.device());
  return {{"matrix product", hash_of(at::mm(input, input))},
          {"exp", hash_of(at::exp(input))},
          {"softmax", hash_of(at::softmax(input, 1))}};
}

GroupReport probe_group(ProcessGroup& group, const ProbeOptions& options) {
  GroupReport report;
  report.kernels =
      group.device().is_cuda() ? std::string("CUDA") : at::get_cpu_capability();
  try {
    report.bits = bits_of_this_rank(group);
    for (const CollectiveRow& row :
         check_collectives(group, options.elements)) {
      report.collective_errors.emplace_back(row.name, row.errors[group.rank()]);
    }
    const auto zeros = [&](std::int64_t count) {
      return at::zeros({count}, at::TensorOptions(group.device()));
    };
    report.latency_us = median_us(group, zeros(1), options.repeats);
    const std::int64_t count = options.bandwidth_kib * 256;
    const double us = median_us(group, zeros(count), options.repeats);
    const double n = group.size();
    // One rank sends nothing; its figure would be a memory copy's.
    if (n > 1) report.mb_per_s = 2 * (n - 1) / n * 4 * count / us;
  } catch (const std::exception& e) {
    report.error = e.what();
  }
  return report;
}

}  // namespace dai::intro
