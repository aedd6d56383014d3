// SPDX-License-Identifier: Apache-2.0
#pragma once

// A small checkpoint as two ranks would write it, for demonstrations without a
// training; and a copy of it in which one bit is another.

#include <filesystem>

namespace dai::ddp {

void write_example_checkpoint(const std::filesystem::path& folder);
// Of the last byte of one of the shards' files.
void flip_a_bit(const std::filesystem::path& checkpoint);

}  // namespace dai::ddp
