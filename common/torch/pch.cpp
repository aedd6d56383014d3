// SPDX-License-Identifier: Apache-2.0
// Empty on purpose: the target dai_torch_pch needs a source to precompile
// LibTorch's headers, which all torch targets then reuse.
