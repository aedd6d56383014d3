// SPDX-License-Identifier: Apache-2.0
#pragma once

// A tiny process that outlives the launcher by a moment, so that not even
// SIGKILL of the launcher leaves a rank or a rank's child behind.
//
// It holds the reading end of a pipe whose only writing end is the launcher's:
// end of file there means that the launcher is gone, however it went. Then it
// kills the process groups it was told of and removes the scratch folder.
// (PR_SET_PDEATHSIG in the ranks covers the ranks alone, not their children,
// and not a rank that changed its user.) A grandchild that moved to a process
// group of its own (setsid) has left the job and is not followed.
//
//   Guardian guardian(scratch_folder);    // before any rank is started
//   guardian.add(pid_of_group); ... guardian.remove(pid_of_group);
//
// Throws std::system_error when the process cannot be made, and from add()
// when it is gone.

#include <sys/types.h>

#include <filesystem>

#include "common/launch/net.h"

namespace dai::launch {

class Guardian {
 public:
  explicit Guardian(const std::filesystem::path& scratch);
  // Ends the guardian, and with it groups that are still on its list.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  void add(pid_t group);
  void remove(pid_t group) noexcept;

 private:
  bool tell(pid_t group, bool alive) noexcept;
  pid_t pid_ = -1;
  UniqueFd pipe_;
};

}  // namespace dai::launch
