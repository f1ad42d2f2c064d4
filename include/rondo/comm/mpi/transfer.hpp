/// \file
/// A started exchange over MPI.
#pragma once

#include <rondo/comm/mpi/message.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace rondo::mpi {

/// The messages of one exchange, the first `count` of those that there is room for. They keep their place in memory while
/// MPI knows their requests.
template <class MemorySpace>
struct Exchange {
  std::vector<Message<MemorySpace>> messages;
  std::size_t count = 0;

  std::span<Message<MemorySpace>> started() { return {messages.data(), count}; }
};

/// What a communicator and its transfers share. Exchanges that are done wait here to be used again.
template <class MemorySpace>
struct Shared {
  std::shared_ptr<Group> group;
  Members members;
  std::vector<std::unique_ptr<Exchange<MemorySpace>>> idle;

  std::unique_ptr<Exchange<MemorySpace>> take() {
    if (idle.empty()) return std::make_unique<Exchange<MemorySpace>>();
    auto exchange = std::move(idle.back());
    idle.pop_back();
    return exchange;
  }
  void give_back(std::unique_ptr<Exchange<MemorySpace>> exchange) {
    for (auto& message : exchange->started()) message.release();
    exchange->count = 0;
    idle.push_back(std::move(exchange));
  }
};

/// Destroying a transfer that is not done breaks the group: a message that was sent cannot be called back, and the
/// next one must not be taken for it. Its memory then stays until the process ends, as MPI may still write there.
template <class Exec>
class Transfer {
 public:
  using Space = typename Exec::memory_space;

  Transfer() = default;
  Transfer(std::shared_ptr<Shared<Space>> shared, std::unique_ptr<Exchange<Space>> exchange, Where where)
      : shared_(std::move(shared)), exchange_(std::move(exchange)), where_(where) {}
  Transfer(Transfer&&) noexcept = default;
  Transfer& operator=(Transfer&& other) noexcept {
    Transfer given_up = std::move(*this);
    shared_ = std::move(other.shared_);
    exchange_ = std::move(other.exchange_);
    where_ = other.where_;
    return *this;
  }
  ~Transfer() {
    if (!exchange_) return;
    if (test()) {
      shared_->give_back(std::move(exchange_));
    } else {
      shared_->group->fail(own_process(), text(" gave up", *first_unfinished()));
      static_cast<void>(exchange_.release());
    }
  }

  /// Makes progress. True when everything has left, and arrived where it belongs.
  bool test() {
    if (!exchange_) return true;
    bool done = true;
    for (auto& message : exchange_->started()) {
      message.progress();
      done = done && message.is_done();
    }
    if (!done) return false;
    for (auto& message : exchange_->started()) {
      if (message.is_in_stage()) message.template copy_in<Exec>();
    }
    return true;
  }

  /// \throws timeout_error, peer_failed; agreement_error on a receiver that has another size in mind than its sender,
  /// which then gets peer_failed
  void wait() { order(Exec{}); }

  /// Later work on `exec` runs after arrival: the host waits.
  void order(const Exec& /*exec*/) {
    if (!exchange_) return;
    finish();
    shared_->give_back(std::move(exchange_));
  }

 private:
  void finish() {
    Group& group = *shared_->group;
    const auto arrived = [&] {
      const bool done = test();
      if (!done) throw_on_error();
      return done;
    };
    const auto peer = [&] { return first_unfinished()->peer(); };
    const auto doing = [&] { return text(" was at", *first_unfinished()); };
    group.wait(shared_->members, arrived, peer, doing, [&](const std::string& about_peer) {
      const auto& message = *first_unfinished();
      const std::string what =
          detail::message(" waited ", group.deadline().count(), " s for rank ", message.peer(), about_peer, ", at");
      group.abandon(timeout_error(message.peer(), text(what.c_str(), message)));
    });
  }

  void throw_on_error() {
    Group& group = *shared_->group;
    for (auto& message : exchange_->started()) {
      if (!message.has_error()) continue;
      if (message.has_other_length()) group.abandon(agreement_error(message.other_length(shared_->members.rank)));
      if (says_failed(message.error())) {
        const auto failed = peer_failed(
            message.peer(),
            text(detail::message(" cannot finish: the process of rank ", message.peer(), " has died, at").c_str(),
                 message));
        group.fail(shared_->members.process(message.peer()), "its process has died");
        throw failed;
      }
      group.abandon(rondo::error(text(detail::message(": ", mpi::text(message.error()), ", at").c_str(), message)));
    }
  }

  /// The message to blame: one that should arrive before one that should leave.
  const Message<Space>* first_unfinished() const {
    const Message<Space>* found = nullptr;
    for (const auto& message : exchange_->started()) {
      if (message.is_done() || (found != nullptr && message.direction() == Direction::send)) continue;
      if (found == nullptr || found->direction() == Direction::send) found = &message;
    }
    return found;
  }

  /// "rank 2 waited 5 s for rank 1 at hop 3 of forward (receiving 4096 bytes)"
  std::string text(const char* what, const Message<Space>& message) const {
    return detail::message("rank ", shared_->members.rank, what, " ",
                           where_.hop < 0 ? "" : detail::message("hop ", where_.hop, " of "), where_.what, " (",
                           message.direction() == Direction::send ? "sending " : "receiving ", message.size(),
                           " bytes)");
  }

  int own_process() const { return shared_->members.process(shared_->members.rank); }

  std::shared_ptr<Shared<Space>> shared_;
  std::unique_ptr<Exchange<Space>> exchange_;
  Where where_{};
};

}  // namespace rondo::mpi
