// SPDX-License-Identifier: Apache-2.0
#pragma once

// The three ways an example can end badly, as types. run_app() (common/app.h)
// turns them into exit codes, once, so that no main() decides that by itself:
//
//   UsageError       2    the caller can mend it: wrong flag, wrong data file
//   Unavailable     77    this machine cannot run it: "needs 2 GPUs, found 0"
//   anything else    1    it ran and failed
//
// what() is one line that says what was given and what is accepted.

#include <stdexcept>

namespace dai {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitUnavailable = 77,
};

}  // namespace dai
