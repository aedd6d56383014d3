// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a rank is doing right now, readable by its launcher even after the
// rank was killed.
//
// The launcher names a folder in DAI_STATUS_DIR. Each rank maps the file
// rank_<RANK>.status there and stores a short text on entering a collective;
// because the page belongs to the file, not to the process, it survives
// SIGKILL. dai_launch reads it to say "rank 2 was in all_reduce #17 (float32,
// 16384 elements) for 3.2 s".
//
// Writer:  auto status = dai::RankStatusWriter::from_environment(rank);
//          if (status) status->set("all_reduce #17 (float32, 16384 elements)");
//          ... the collective ...  if (status) status->leave();
//
// set() and leave() make no system call (the clock is read through the vDSO),
// so they may sit on the path of every collective. Calls may come from
// different threads but not at the same time.
// Throws std::runtime_error when DAI_STATUS_DIR is set but not usable.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace dai {

inline constexpr std::size_t kRankStatusTextBytes = 240;

// <folder>/rank_<rank>.status
std::filesystem::path rank_status_path(const std::filesystem::path& folder,
                                       int rank);

class RankStatusWriter {
 public:
  // nullptr when DAI_STATUS_DIR is unset or empty: nobody is reading.
  static std::unique_ptr<RankStatusWriter> from_environment(int rank);

  explicit RankStatusWriter(const std::filesystem::path& path);
  ~RankStatusWriter();
  RankStatusWriter(const RankStatusWriter&) = delete;
  RankStatusWriter& operator=(const RankStatusWriter&) = delete;

  // The rank enters `text`; cut after kRankStatusTextBytes bytes.
  void set(std::string_view text);

  // The rank has left what set() named; the text stays as the last one.
  void leave();

 private:
  struct Page;
  void publish(bool inside, const std::string_view* text);
  Page* page_ = nullptr;
};

struct RankStatusInfo {
  std::string text;    // of the last set()
  bool inside = true;  // false once leave() was called
  double seconds = 0;  // since that set() or leave()
};

// nullopt when the file is absent, truncated, foreign, when nothing was set
// yet, or when the rank died in the middle of writing. Never throws.
std::optional<RankStatusInfo> read_rank_status(
    const std::filesystem::path& path);

}  // namespace dai
