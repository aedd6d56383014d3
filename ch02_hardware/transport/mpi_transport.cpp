// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/mpi_transport.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <stdexcept>
#include <thread>
#include <utility>

namespace dai::hardware {
namespace {

using std::chrono::milliseconds;

// A piece is one message of MPI's.
constexpr std::size_t kPiece = 262144;
constexpr int kDataTag = 1, kNoteTag = 2;

bool broken = false;  // a peer was lost: MPI_Finalize could wait for it

void check(int code) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error("MPI: " + std::string(text, length));
}

void start_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  if (started) return;
  int granted = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &granted));
  if (granted < MPI_THREAD_SERIALIZED) {
    throw std::runtime_error("this MPI serves its first thread only");
  }
  std::atexit([] {
    int over = 0;
    MPI_Finalized(&over);
    if (!over && !broken) MPI_Finalize();
  });
}

class MpiChannels final : public Channels {
 public:
  explicit MpiChannels(int size) : peers_(size) {
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
    // Errors are for us to report, not for MPI to end the program by.
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  }
  ~MpiChannels() override {
    // MPI reads a note until its request is done. What is not after a while
    // goes to a rank that listens no more: kept for good.
    for (int i = 0; i < 1000 && !notes_.empty(); ++i) {
      forget_sent_notes();
      if (i > 100) std::this_thread::sleep_for(milliseconds(1));
    }
    if (!notes_.empty()) new std::list<Sent>(std::move(notes_));
    if (!broken) MPI_Comm_free(&comm_);
  }

  // MPI reads the caller's memory until it is done: only then has the piece
  // been sent. The caller comes back with the same data until then.
  std::size_t try_send(int to, const std::byte* data,
                       std::size_t bytes) override {
    Peer& peer = peers_[to];
    if (peer.sending == 0) {
      peer.sending = std::min(bytes, kPiece);
      check(MPI_Isend(data, static_cast<int>(peer.sending), MPI_BYTE, to,
                      kDataTag, comm_, &peer.request));
    }
    int done = 0;
    check(MPI_Test(&peer.request, &done, MPI_STATUS_IGNORE));
    return done ? std::exchange(peer.sending, 0) : 0;
  }

  // A piece never reaches beyond the message that it is a part of, so it fits.
  std::size_t try_receive(int from, std::byte* data, std::size_t) override {
    const std::size_t bytes = probe(from);
    if (bytes > 0) receive(data, bytes);
    return bytes;
  }
  std::span<const std::byte> peek(int from, std::size_t) override {
    Peer& peer = peers_[from];
    if (peer.begin == peer.room.size()) {
      const std::size_t bytes = probe(from);
      peer.begin = 0;
      peer.room.resize(bytes);
      if (bytes > 0) receive(peer.room.data(), bytes);
    }
    return {peer.room.data() + peer.begin, peer.room.size() - peer.begin};
  }
  void consume(int from, std::size_t bytes) override {
    peers_[from].begin += bytes;
  }

  bool post(int to, const Note& note) override {
    forget_sent_notes();
    notes_.push_back({note, MPI_REQUEST_NULL});
    if (note.kind == NoteKind::kAbort) broken = true;
    check(MPI_Isend(&notes_.back().note, sizeof(Note), MPI_BYTE, to, kNoteTag,
                    comm_, &notes_.back().request));
    return true;
  }
  bool take(int from, Note& note) override {
    int there = 0;
    MPI_Message message;
    check(MPI_Improbe(from, kNoteTag, comm_, &there, &message,
                      MPI_STATUS_IGNORE));
    if (!there) return false;
    check(
        MPI_Mrecv(&note, sizeof(Note), MPI_BYTE, &message, MPI_STATUS_IGNORE));
    return true;
  }
  bool dead(int) override { return false; }

  // MPI cannot be waited for with a limit: naps.
  void park(milliseconds) override {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  void interrupt() override {}
  int spins() const override { return 2000; }

 private:
  struct Peer {
    MPI_Request request = MPI_REQUEST_NULL;
    std::size_t sending = 0;  // bytes of the piece that is on its way
    std::vector<std::byte> room;
    std::size_t begin = 0;
  };
  struct Sent {
    Note note;
    MPI_Request request;
  };

  void forget_sent_notes() {
    notes_.remove_if([](Sent& sent) {
      int done = 0;
      MPI_Test(&sent.request, &done, MPI_STATUS_IGNORE);
      return done != 0;
    });
  }

  // Bytes of the next piece, which is then to be received; 0: none has come.
  std::size_t probe(int from) {
    int there = 0, bytes = 0;
    MPI_Status status;
    check(MPI_Improbe(from, kDataTag, comm_, &there, &message_, &status));
    if (!there) return 0;
    check(MPI_Get_count(&status, MPI_BYTE, &bytes));
    return static_cast<std::size_t>(bytes);
  }
  void receive(std::byte* data, std::size_t bytes) {
    check(MPI_Mrecv(data, static_cast<int>(bytes), MPI_BYTE, &message_,
                    MPI_STATUS_IGNORE));
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  MPI_Message message_ = MPI_MESSAGE_NULL;
  std::vector<Peer> peers_;
  std::list<Sent> notes_;
};

std::unique_ptr<Transport> connect(int rank, int size,
                                   const std::vector<int>& nodes,
                                   const TransportOptions& options) {
  start_mpi();
  int mpi_rank = 0, mpi_size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &mpi_size);
  if (mpi_rank != rank || mpi_size != size) {
    throw std::runtime_error(fmt::format(
        "rank {} of {} is rank {} of {} to MPI; start the ranks with mpirun "
        "-n {}",
        rank, size, mpi_rank, mpi_size, size));
  }
  return transport_over(std::make_unique<MpiChannels>(size), rank, size, "mpi",
                        nodes, options);
}

}  // namespace

extern "C" const MpiTransportLibrary* dai_mpi_transport_library() {
  static const MpiTransportLibrary library{connect};
  return &library;
}

}  // namespace dai::hardware
