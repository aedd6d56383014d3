// SPDX-License-Identifier: Apache-2.0
#include "common/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace dai {

Progress::Progress(std::string label, std::int64_t total, bool enabled,
                   std::string unit, ProgressOutput output)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      enabled_(enabled),
      output_(output),
      terminal_(output.columns > 0 || ::isatty(::fileno(output.file)) == 1),
      next_s_(terminal_ ? output.terminal_interval_s
                        : output.plain_interval_s) {}

Progress::~Progress() {
  if (shown_ < 0) return;
  if (shown_ != done_) show();
  if (terminal_) std::fputs("\n", output_.file);
}

void Progress::update(std::int64_t done, std::string_view note) {
  if (!enabled_) return;
  done_ = done;
  note_ = note;
  const double now_s = timer_.seconds();
  if (first_s_ < 0) {
    first_s_ = now_s;
    first_done_ = done;
  }
  last_s_ = now_s;
  if (now_s < next_s_) return;
  next_s_ = now_s + (terminal_ ? output_.terminal_interval_s
                               : output_.plain_interval_s);
  show();
}

void Progress::show() {
  const double rate =
      done_ > first_done_
          ? static_cast<double>(done_ - first_done_) /
                std::max(last_s_ - first_s_, 1e-9)
          : static_cast<double>(done_) / std::max(last_s_, 1e-9);
  std::string line = fmt::format("{} {}", label_, done_);
  if (total_ > 0) line += fmt::format("/{}", total_);
  line += fmt::format(" {}", unit_);
  if (total_ > 0) line += fmt::format(" ({} %)", 100 * done_ / total_);
  // Three digits, but never as 1.2e+03.
  line +=
      rate < 100 ? fmt::format(" {:.3g}", rate) : fmt::format(" {:.0f}", rate);
  line += fmt::format(" {}/s", unit_);
  if (done_ > 0 && done_ < total_) {
    line += fmt::format(", {:.0f} s left",
                        static_cast<double>(total_ - done_) / rate);
  }
  if (!note_.empty()) line += ", " + note_;
  if (terminal_) {
    // A line that wraps cannot be rewritten: \r goes back to its last row.
    winsize size{};
    ::ioctl(::fileno(output_.file), TIOCGWINSZ, &size);
    const int columns = output_.columns > 0 ? output_.columns : size.ws_col;
    if (columns > 1) {
      line.resize(std::min<std::size_t>(line.size(), columns - 1));
    }
    line = "\r" + line + "\x1b[K";
  } else {
    line += "\n";
  }
  // Not fmt::print: it throws if stderr is gone, and no run ends for that.
  std::fputs(line.c_str(), output_.file);
  std::fflush(output_.file);
  shown_ = done_;
}

}  // namespace dai
