// SPDX-License-Identifier: Apache-2.0
#pragma once

// The folder of a run's checkpoints, in which every moment may be the last:
//
//   run/step-000120/            complete; the manifest was written last
//   run/.step-000180.4f1c09aa/  being written, or what a dead run left
//
//   CheckpointStore store("run");
//   FoundCheckpoint found = store.find_newest();   // passes damaged ones over
//   path folder = store.begin(180, token);         // all ranks put files there
//   store.commit(180, token);                      // rank 0, after the
//   manifest store.prune(180, {.last = 2, .every = 1000});
//
// commit() is one rename, made durable: whoever looks finds the old state or
// the new one. Nothing here needs torch or the other ranks. Errors: those of
// common/file.h; UsageError for a folder that cannot be made.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dai::ddp {

struct DamagedCheckpoint {
  std::filesystem::path path;
  std::string reason;  // one line
};

struct FoundCheckpoint {
  std::filesystem::path path;              // empty: there is none
  std::int64_t step = -1;                  // steps done
  std::vector<DamagedCheckpoint> damaged;  // newer than it
};

struct KeepPolicy {
  std::int64_t last = 2;   // the newest so many; at least 1
  std::int64_t every = 0;  // and those of steps that it divides; 0: none

  void check() const;  // throws UsageError
};

class CheckpointStore {
 public:
  explicit CheckpointStore(std::filesystem::path folder);

  const std::filesystem::path& folder() const { return folder_; }
  // By step, whole or not.
  std::vector<std::int64_t> steps() const { return steps_in(folder_); }
  std::filesystem::path path_of(std::int64_t step) const {
    return path_of(folder_, step);
  }
  // The same without a store. Of a path that is no folder: none.
  static std::vector<std::int64_t> steps_in(
      const std::filesystem::path& folder);
  static std::filesystem::path path_of(const std::filesystem::path& folder,
                                       std::int64_t step);

  // Opens from the newest on, reads all of it, and takes the first that is
  // whole: manifest, files, headers, checksums.
  FoundCheckpoint find_newest() const;
  bool is_whole(std::int64_t step, std::string* reason = nullptr) const;

  // The folder to write into. `token` tells this run from others. Any rank may
  // call it first.
  std::filesystem::path begin(std::int64_t step,
                              const std::string& token) const;
  // Gives it its name, unless there is a whole one of that step.
  void commit(std::int64_t step, const std::string& token) const;
  // A save that came to nothing.
  void abandon(std::int64_t step, const std::string& token) const;

  // Removes what the policy does not keep of those up to step `newest`, which
  // was just committed and stays. Later ones are damaged, or this run would
  // have gone on from them: they do not count.
  void prune(std::int64_t newest, const KeepPolicy& keep) const;
  // Removes what runs other than `token` have left unfinished.
  void sweep(const std::string& token) const;

 private:
  std::filesystem::path partial(std::int64_t step,
                                const std::string& token) const;
  const std::filesystem::path folder_;
};

}  // namespace dai::ddp
