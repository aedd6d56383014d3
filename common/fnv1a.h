// SPDX-License-Identifier: Apache-2.0
#pragma once

// FNV-1a (Fowler, Noll, Vo), 64 bits: a fingerprint of bytes for telling apart
// what was not made to deceive. Long data in pieces: the last hash goes in.
//
//   std::uint64_t hash = fnv1a("head");
//   hash = fnv1a("tail", hash);           // == fnv1a("headtail")

#include <cstdint>
#include <string_view>

namespace dai {

constexpr std::uint64_t fnv1a(std::string_view bytes,
                              std::uint64_t hash = 0xcbf29ce484222325u) {
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace dai
