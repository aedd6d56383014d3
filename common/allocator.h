// SPDX-License-Identifier: Apache-2.0
#pragma once

// What malloc does with large blocks that are freed.

namespace dai {

// Freed blocks stay with the process. By default glibc gives large ones back to
// the kernel at once, whichever way it got them (mmap of their own, or the top
// of the heap), and takes them again at the next use: zeroed, page by page, a
// page fault each. A training step frees its activations in every backward and
// allocates the same sizes in the next forward; ch03's default model paid
// 31,000 faults a step, an eighth of its time.
// The price: memory stays at its peak. For processes that repeat one step, not
// for servers. Blocks beyond 1 GiB go back as before, and so does everything
// under another C library. Call it once, before the first step. mallopt(3).
void keep_freed_memory();

}  // namespace dai
