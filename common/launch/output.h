// SPDX-License-Identifier: Apache-2.0
#pragma once

// The way of the ranks' output to the launcher's stdout and stderr.
//
//   rank's pipe -> LogStream (cuts it into lines) -> Output -> terminal, file
//
// Output writes whole lines, one after the other, through one queue for both
// streams: they may be the same terminal. It never blocks the loop, and when
// the reader behind stdout is slow, full() tells the streams to stop reading,
// so that the ranks wait and nobody's memory grows.

#include <sys/types.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/launch/event_loop.h"
#include "common/launch/net.h"

namespace dai::launch {

class Output {
 public:
  // on_broken: nobody reads our stdout or stderr any more (EPIPE), or the disk
  // behind it is full; called once, with errno. Later output is dropped.
  Output(EventLoop& loop, std::function<void(int error)> on_broken);
  ~Output();

  void write(int fd, std::string_view text);  // text ends with a newline
  void say(std::string_view line);            // "dai_launch: line", stderr
  bool full() const { return queued_ > kQueueBytes; }
  void when_not_full(std::function<void()> callback);
  void flush(EventLoop::Duration limit);

 private:
  static constexpr std::size_t kQueueBytes = 1 << 20;
  struct Chunk {
    int fd;
    std::string text;
  };
  void write_some();
  void watch_front();

  EventLoop& loop_;
  std::function<void(int)> on_broken_;
  std::function<void()> on_space_;
  std::deque<Chunk> chunks_;
  std::size_t written_ = 0;  // of the first chunk
  std::size_t queued_ = 0;
  int watched_ = -1;
  bool broken_ = false;
};

// Several ranks that refuse the same wrong flag say so in the same words. A
// line that another rank has just written is held back for a moment: if its
// rank then exits with 2 or 77 the line is dropped, otherwise it is written.
class Echoes {
 public:
  bool heard_from_another(int rank, std::string_view line) const;
  void remember(int rank, std::string_view line);

 private:
  std::deque<std::pair<int, std::string>> recent_;
};

// One stream of one rank.
struct LogSink {
  int rank = 0;
  int console = -1;            // descriptor, or -1: files alone
  std::string prefix;          // "[rank 2]:" under --tee
  std::string file;            // path, or empty
  Echoes* echoes = nullptr;    // stderr without prefix only
  std::size_t tail_lines = 0;  // how many of the last lines to keep
};

class LogStream {
 public:
  // Lines longer than this are cut, so that no rank can fill our memory by
  // writing no newline.
  static constexpr std::size_t kMaxLine = 64 * 1024;

  LogStream(EventLoop& loop, Output& output, UniqueFd pipe, LogSink sink);
  ~LogStream();
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;

  void resume();  // when Output has space again
  // Reads what is in the pipe now. The rank has ended, so an unfinished line
  // gets its newline; `refused` drops echoes (exit code 2 or 77).
  void drain(bool refused);
  const std::deque<std::string>& tail() const { return tail_; }

 private:
  bool read_once();  // false: nothing to read now, or the end
  void take(std::string_view bytes);
  void on_line(std::string line);  // with its newline
  void release(bool drop_echoes);
  void emit(const std::string& line);
  void stop_watching();

  struct Held {
    std::string line;
    bool echo;
  };
  EventLoop& loop_;
  Output& output_;
  UniqueFd pipe_;
  LogSink sink_;
  UniqueFd file_;
  std::string partial_;
  std::deque<std::string> tail_;
  std::vector<Held> held_;
  std::size_t held_bytes_ = 0;
  EventLoop::TimerId release_timer_ = 0;
};

}  // namespace dai::launch
