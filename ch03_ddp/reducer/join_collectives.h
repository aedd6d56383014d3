// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ranks tell each other while some have run out of data: a few one-element
// all_reduces a step, in one order on all ranks. As torch.distributed's Join.
//
//   a rank that trains              a rank that has ended
//   announce_active                 somebody_is_active      (else: all done)
//   somebody_has_ended(false)       somebody_has_ended(true)   if asked for
//   largest_rank(true)              largest_rank(false)     if buffers travel
//   announce_sync(synchronises?)    somebody_synchronises
//   its backward's buckets          the same buckets, of zeros

#include <c10/util/intrusive_ptr.h>

namespace c10d {
class Work;
}

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

// Its result is how many ranks still train.
c10::intrusive_ptr<::c10d::Work> announce_active(ProcessGroup& group);
bool somebody_is_active(ProcessGroup& group);
bool somebody_has_ended(ProcessGroup& group, bool i_have);
void announce_sync(ProcessGroup& group, bool synchronises);
bool somebody_synchronises(ProcessGroup& group);
// Of the ranks that are candidates; throws std::logic_error when none is.
int largest_rank(ProcessGroup& group, bool candidate);

}  // namespace dai::ddp
