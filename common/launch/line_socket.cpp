// SPDX-License-Identifier: Apache-2.0
#include "common/launch/line_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace dai::launch {

LineSocket::LineSocket(EventLoop& loop, UniqueFd fd, OnMessage on_message,
                       OnClose on_close)
    : loop_(loop),
      fd_(std::move(fd)),
      on_message_(std::move(on_message)),
      on_close_(std::move(on_close)) {
  watch();
}

LineSocket::~LineSocket() {
  close();
}

void LineSocket::watch() {
  const short events =
      static_cast<short>(POLLIN | (outgoing_.empty() ? 0 : POLLOUT));
  loop_.watch(fd_.get(), events, [this](short e) { on_ready(e); });
}

void LineSocket::close() {
  if (!fd_) return;
  loop_.unwatch(fd_.get());
  fd_.reset();
}

void LineSocket::drop(const std::string& why) {
  if (!fd_) return;
  close();
  on_close_(why);
}

void LineSocket::on_ready(short events) {
  if ((events & POLLOUT) != 0) write_some();
  if (fd_ && (events & ~POLLOUT) != 0) read_lines();
}

void LineSocket::read_lines() {
  std::array<char, 16 * 1024> piece;
  const ssize_t got = recv(fd_.get(), piece.data(), piece.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    return drop(got == 0 ? "connection closed" : error_text(errno));
  }
  incoming_.append(piece.data(), static_cast<std::size_t>(got));
  std::size_t begin = 0;
  for (auto end = incoming_.find('\n'); end != std::string::npos;
       end = incoming_.find('\n', begin)) {
    handle(incoming_.substr(begin, end - begin));
    if (!fd_) return;
    begin = end + 1;
  }
  incoming_.erase(0, begin);
  if (incoming_.size() > kMaxLineBytes) drop("sent a line without end");
}

void LineSocket::handle(const std::string& line) {
  try {
    const Json message = Json::parse(line);
    if (!message.at("type").is_string()) return drop("sent no message type");
    on_message_(message);
  } catch (const Json::exception&) {
    drop("does not speak the rendezvous protocol");
  }
}

void LineSocket::send(const Json& message) {
  if (!fd_ || finishing_) return;
  // A log tail may hold any bytes; JSON holds UTF-8 alone.
  outgoing_ += message.dump(-1, ' ', false, Json::error_handler_t::replace);
  outgoing_ += '\n';
  write_some();
}

void LineSocket::finish_sending() {
  if (!fd_) return;
  finishing_ = true;
  write_some();
}

void LineSocket::write_some() {
  while (!outgoing_.empty()) {
    const ssize_t sent = ::send(fd_.get(), outgoing_.data(), outgoing_.size(),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    // Other errors are met by the next read, outside of the caller's stack.
    if (sent < 0) break;
    outgoing_.erase(0, static_cast<std::size_t>(sent));
  }
  // A peer that does not read must not make us keep its messages for ever:
  // our next read finds the connection ended.
  if (outgoing_.size() > 4 * kMaxLineBytes) {
    outgoing_.clear();
    shutdown(fd_.get(), SHUT_RDWR);
  }
  if (outgoing_.empty() && finishing_) shutdown(fd_.get(), SHUT_WR);
  watch();
}

}  // namespace dai::launch
