// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one door to PyTorch's distributed internals. c10d's C++ headers are not
// a stable interface, so every file of this repository that needs them comes
// through here, and an upgrade of LibTorch is checked in one place.
//
// Checked with LibTorch 2.11.0 (the PyPI wheel) and the Gloo headers of Debian
// 12 and 13 (libgloo-dev; the wheel has Gloo's code but not its headers).
// USE_DISTRIBUTED and USE_C10D_GLOO come from the LibTorch targets.
//
// Costs about 10 s a file to compile: include it in .cpp files only. Public
// headers name c10d types by the forward declarations in process_group.h.

#include <torch/version.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
              "c10d's internals were checked with LibTorch 2.11 only");
