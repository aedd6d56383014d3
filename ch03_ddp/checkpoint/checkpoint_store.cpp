// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/checkpoint_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <system_error>
#include <utility>

#include "common/errors.h"
#include "common/manifest.h"

namespace dai::ddp {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kPartial = ".step-";

// -1 unless it is "step-" and a number.
std::int64_t step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return -1;
  std::int64_t step = -1;
  const char* const end = name.data() + name.size();
  const auto [rest, error] =
      std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && rest == end && step >= 0 ? step : -1;
}

// A rename lasts when its folder has reached the disk.
void make_durable(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || ::fsync(fd) != 0) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    throw std::system_error(error, std::generic_category(),
                            fmt::format("'{}'", folder.string()));
  }
  ::close(fd);
}

}  // namespace

void KeepPolicy::check() const {
  if (last < 1 || every < 0) {
    throw UsageError(fmt::format(
        "keeping the last {} checkpoints and every {}th step's: at least the "
        "last 1, and 0 or more",
        last, every));
  }
}

CheckpointStore::CheckpointStore(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!fs::is_directory(folder_)) {
    throw UsageError(fmt::format("'{}': no folder, and none can be made: {}",
                                 folder_.string(), error.message()));
  }
}

std::vector<std::int64_t> CheckpointStore::steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  if (!fs::is_directory(folder)) return steps;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::int64_t step = step_of(entry.path().filename().string());
    if (step >= 0) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

fs::path CheckpointStore::path_of(const fs::path& folder, std::int64_t step) {
  return folder / fmt::format("{}{:06}", kPrefix, step);
}

fs::path CheckpointStore::partial(std::int64_t step,
                                  const std::string& token) const {
  return folder_ / fmt::format("{}{:06}.{}", kPartial, step, token);
}

FoundCheckpoint CheckpointStore::find_newest() const {
  FoundCheckpoint found;
  auto all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    std::string reason;
    if (!is_whole(*step, &reason)) {
      found.damaged.push_back({path_of(*step), reason});
      continue;
    }
    found.path = path_of(*step);
    found.step = *step;
    break;
  }
  return found;
}

fs::path CheckpointStore::begin(std::int64_t step,
                                const std::string& token) const {
  const fs::path path = partial(step, token);
  fs::create_directories(folder_);
  fs::create_directory(path);  // the same call on each rank, whoever is first
  return path;
}

bool CheckpointStore::is_whole(std::int64_t step, std::string* reason) const {
  try {
    Checkpoint(path_of(step)).verify();
    return true;
  } catch (const std::exception& error) {
    if (reason != nullptr) *reason = error.what();
    return false;
  }
}

void CheckpointStore::commit(std::int64_t step,
                             const std::string& token) const {
  const fs::path path = path_of(step), made = partial(step, token);
  if (fs::exists(path)) {
    // A run that has begun again comes by a step twice. What is whole stays: to
    // replace it would leave a moment without it.
    if (is_whole(step)) return abandon(step, token);
    fs::remove_all(path);
  }
  fs::rename(made, path);
  make_durable(folder_);
}

void CheckpointStore::abandon(std::int64_t step,
                              const std::string& token) const {
  std::error_code ignored;
  fs::remove_all(partial(step, token), ignored);
}

void CheckpointStore::prune(std::int64_t newest, const KeepPolicy& keep) const {
  std::vector<std::int64_t> all = steps();
  // Damaged ones that were passed over may be of later steps.
  std::erase_if(all, [&](std::int64_t step) { return step > newest; });
  for (std::size_t i = 0; i + keep.last < all.size(); ++i) {
    if (keep.every > 0 && all[i] % keep.every == 0) continue;
    // Without its manifest it is none, should this end half-way.
    fs::remove(path_of(all[i]) / "manifest.json");
    fs::remove_all(path_of(all[i]));
  }
}

void CheckpointStore::sweep(const std::string& token) const {
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPartial) && !name.ends_with("." + token)) {
      fs::remove_all(entry.path());
    }
  }
}

}  // namespace dai::ddp
