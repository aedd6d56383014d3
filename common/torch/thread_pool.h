// SPDX-License-Identifier: Apache-2.0
#pragma once

// GNU's OpenMP, on which LibTorch's operators share their work, keeps a pool of
// threads for every thread that has ever called one. When the pools together
// have more threads than there are cores, their idle threads no longer spin for
// a moment but sleep at once, and each operator has to wake them: a decode step
// of chapter 6's model then takes 44 ms instead of 30.
//
//   load(model);             // this thread computes
//   release_thread_pool();   // and will not for a while: another thread does

namespace dai {

// Ends the threads that share the work of the calling thread; its next operator
// makes new ones. Not inside an operator. Nothing happens under another OpenMP.
void release_thread_pool();

}  // namespace dai
