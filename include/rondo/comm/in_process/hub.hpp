/// \file
/// Where the threads of an in-process group meet: posted messages, collectives, and the news of a failure.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rondo::in_process {

/// What a posted half carries beside the message where the host copies.
struct NoMoments {};

/// One posted half of a message. `context` tells communicators apart; `from` and `to` are threads of the group.
template <class MemorySpace, class Moments = NoMoments>
struct Post : Moments {
  enum class State { pending, copying, done, refused };
  int context = 0;
  int from = 0;
  int to = 0;
  Direction direction = Direction::send;
  typename Segment<MemorySpace>::Bytes bytes;
  State state = State::pending;
  std::string refusal;
  Post* next = nullptr;  ///< of the same transfer
};

/// The threads and the communicators among them.
struct Membership {
  int context = 0;
  std::vector<int> threads;  ///< the group's thread for each rank of the communicator
};

/// Shared by all threads of a group, for one run. One mutex guards everything; copies are made outside it. Whoever
/// posts the second half of a message copies it, so a transfer never depends on its peer calling again.
template <class MemorySpace, class Moments = NoMoments>
class Hub {
 public:
  using PostType = Post<MemorySpace, Moments>;
  using Clock = std::chrono::steady_clock;

  Hub(int threads, Deadline deadline)
      : deadline_(deadline),
        wake_(static_cast<std::size_t>(threads)),
        left_(static_cast<std::size_t>(threads), false),
        escaped_(static_cast<std::size_t>(threads)) {
    pending_.reserve(16 * static_cast<std::size_t>(threads));
  }

  Deadline deadline() const { return deadline_; }

  /// A thread's work ended with an exception: everyone who waits or calls from now on gets peer_failed.
  void fail(int thread, const std::string& what, std::exception_ptr exception) {
    const std::lock_guard lock(mutex_);
    escaped_[static_cast<std::size_t>(thread)] = std::move(exception);
    break_group(thread, what);
  }

  /// \throws peer_failed when a thread has failed
  void listen(const Membership& members) {
    const std::lock_guard lock(mutex_);
    throw_if_failed(members);
  }

  /// A thread says that it has failed, and goes on: everyone who waits or calls from now on gets peer_failed.
  void give_up(int thread, const std::string& what) {
    const std::lock_guard lock(mutex_);
    break_group(thread, what);
  }

  /// A thread returned from its work and will not call again.
  void leave(int thread) {
    const std::lock_guard lock(mutex_);
    left_[static_cast<std::size_t>(thread)] = true;
    wake_all();
  }

  /// The exception that ended the work of the thread that failed first; of another one when that thread caught its
  /// own; null when no exception ended any thread's work.
  std::exception_ptr original_exception() {
    const std::lock_guard lock(mutex_);
    if (failure_ && escaped_[static_cast<std::size_t>(failure_->thread)]) {
      return escaped_[static_cast<std::size_t>(failure_->thread)];
    }
    const auto found = std::find_if(escaped_.begin(), escaped_.end(), [](const auto& e) { return e != nullptr; });
    return found == escaped_.end() ? nullptr : *found;
  }

  /// Posts half a message; copies at once when the other half is there, on the host.
  template <class Exec>
  PostType* post(const Exec& exec, const Membership& members, int context, int from, int to, Direction direction,
                 const typename Segment<MemorySpace>::Bytes& bytes) {
    return post_with(
        [&](const PostType&, const PostType&, const auto& target, const auto& source) { copy(exec, target, source); },
        nullptr, members, context, from, to, direction, bytes);
  }

  /// True when the message has been copied, false while it may still be. Never blocks.
  /// \throws peer_failed, agreement_error like wait, when it never will be
  bool test(int thread, const PostType* post, const Membership& members, const Where& where) {
    const std::unique_lock lock(mutex_);
    if (settled(*post)) return arrived(*post);
    if (!given_up(*post)) return false;
    throw_if_failed(members);
    abandon_left(thread, *post, members, where);
  }

  /// Returns when the message has been copied.
  /// \throws timeout_error, peer_failed, or agreement_error when the two halves have different sizes
  void wait(int thread, const PostType* post, const Membership& members, const Where& where) {
    std::unique_lock lock(mutex_);
    const bool in_time = wait_until(lock, thread, [&] { return settled(*post) || given_up(*post); });
    if (settled(*post)) return static_cast<void>(arrived(*post));
    throw_if_failed(members);
    if (in_time) abandon_left(thread, *post, members, where);
    abandon_late(thread, *post, members, where);
  }

  /// Gives a post back. One that nobody matched is withdrawn. One that a peer is copying from or to is waited for: its
  /// memory may be about to go, and a copy that has begun ends without anybody's help.
  void release(int thread, PostType* post) {
    std::unique_lock lock(mutex_);
    withdraw(lock, thread, post);
    give_back(post);
  }

  /// A collective of all members: the last to arrive calls combine(pointers of all ranks, in rank order) for everyone.
  /// \param signature  must be equal on all ranks ("all_reduce of 12 floats"), else everyone throws agreement_error
  template <class Combine>
  void collective(int thread, const Membership& members, const std::string_view signature, void* data,
                  const Combine& combine) {
    std::unique_lock lock(mutex_);
    throw_if_failed(members);
    Meeting& meeting = meeting_of(members);
    const auto rank = static_cast<std::size_t>(rank_of(members, thread));
    const auto generation = meeting.generation;
    std::string& refusal = meeting.refusals[generation % 2];
    if (meeting.arrived == 0) {
      meeting.signature.assign(signature);
      meeting.first = static_cast<int>(rank);
      refusal.clear();
    } else if (meeting.signature != signature && refusal.empty()) {
      refusal = detail::message("rank ", meeting.first, " calls ", meeting.signature, " where rank ", rank, " calls ",
                                signature);
    }
    meeting.data[rank] = data;
    meeting.here[rank] = true;
    if (++meeting.arrived == members.threads.size()) {
      if (refusal.empty()) combine(std::span<void* const>(meeting.data));
      meeting.arrived = 0;
      std::fill(meeting.here.begin(), meeting.here.end(), false);
      ++meeting.generation;
      wake_all();
    } else {
      const auto missing_left = [&] {
        return missing(members, meeting, [&](int other) { return left_[static_cast<std::size_t>(other)]; });
      };
      const bool in_time =
          wait_until(lock, thread, [&] { return meeting.generation != generation || failure_ || missing_left() >= 0; });
      if (meeting.generation == generation) {
        throw_if_failed(members);
        if (in_time) {
          abandon(thread,
                  peer_failed(missing_left(), detail::message("rank ", rank, " cannot finish ", signature,
                                                              ": the group was left by rank ", missing_left())));
        }
        const int absent = missing(members, meeting, [](int) { return true; });
        abandon(thread, timeout_error(absent, detail::message("rank ", rank, " waited ", deadline_.count(),
                                                              " s for rank ", absent, " at ", signature)));
      }
    }
    if (!refusal.empty()) throw agreement_error(refusal);
  }

  /// A number for a new communicator. Only from inside a collective's combine.
  int new_context() { return ++last_context_; }

 protected:
  struct Failure {
    int thread;
    std::string what;
  };

  /// Posts half a message in `mine`, or in a post of its own. When the other half is there, copies at once and outside the
  /// lock: copy(mine, other, target, source).
  template <class Copy>
  PostType* post_with(const Copy& copy, PostType* mine, const Membership& members, int context, int from, int to,
                      Direction direction, const typename Segment<MemorySpace>::Bytes& bytes) {
    PostType* other = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (failure_ && mine != nullptr) give_back(mine);
      throw_if_failed(members);
      if (mine == nullptr) mine = take_post();
      mine->context = context;
      mine->from = from;
      mine->to = to;
      mine->direction = direction;
      mine->bytes = bytes;
      mine->state = PostType::State::pending;
      other = match(*mine);
      if (other == nullptr) {
        pending_.push_back(mine);
        return mine;
      }
      if (other->bytes.size() != mine->bytes.size()) {
        refuse(*mine, *other, members);
        return mine;
      }
      mine->state = other->state = PostType::State::copying;
    }
    const int peer = direction == Direction::send ? to : from;
    try {
      const auto& source = direction == Direction::send ? mine->bytes : other->bytes;
      const auto& target = direction == Direction::send ? other->bytes : mine->bytes;
      copy(*mine, *other, target, source);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      other->state = PostType::State::pending;  // for nobody: its owner is told of the failure
      give_back(mine);
      break_group(direction == Direction::send ? from : to, "a copy between two ranks failed");
      throw;
    }
    const std::lock_guard lock(mutex_);
    settle(*mine, *other, PostType::State::done);
    wake(peer);
    return mine;
  }

  template <class F>
  decltype(auto) with_lock(const F& f) {
    const std::lock_guard lock(mutex_);
    return f();
  }

  /// Nobody finds the post any more, and nobody copies from or to it. Under the lock.
  void withdraw(std::unique_lock<std::mutex>& lock, int thread, PostType* post) {
    std::erase(pending_, post);
    wake_[static_cast<std::size_t>(thread)].wait(lock, [&] { return post->state != PostType::State::copying; });
  }

  struct Meeting {
    int context = 0;
    std::size_t arrived = 0;
    std::uint64_t generation = 0;
    std::string signature;
    /// Of this generation and of the one before, which slow ranks may not have looked at yet when fast ones call again.
    /// No rank can be two generations behind: the one between would not have ended without it.
    std::array<std::string, 2> refusals;
    int first = 0;
    std::vector<void*> data;
    std::vector<bool> here;
  };

  static int rank_of(const Membership& members, int thread) {
    const auto found = std::find(members.threads.begin(), members.threads.end(), thread);
    return found == members.threads.end() ? -1 : static_cast<int>(found - members.threads.begin());
  }

  /// The first failure is the one that everybody is told of. Under the lock.
  void break_group(int thread, const std::string& what) {
    if (!failure_) failure_ = Failure{thread, what};
    wake_all();
  }

  /// Leaves a call that others may be part of. The group breaks before the exception unwinds what they point to.
  template <class Error>
  [[noreturn]] void abandon(int thread, const Error& error) {
    break_group(thread, error.what());
    throw error;
  }

  /// False when the deadline has passed first. One that the clock cannot count to is none.
  template <class Condition>
  bool wait_until(std::unique_lock<std::mutex>& lock, int thread, const Condition& condition) {
    auto& wake = wake_[static_cast<std::size_t>(thread)];
    const auto now = Clock::now();
    if (deadline_ >= Deadline(Clock::time_point::max() - now) / 2) {
      wake.wait(lock, condition);
      return true;
    }
    return wake.wait_until(lock, now + std::chrono::duration_cast<Clock::duration>(deadline_), condition);
  }

  static bool settled(const PostType& post) {
    return post.state == PostType::State::done || post.state == PostType::State::refused;
  }

  /// What there is to say of a settled message.
  static bool arrived(const PostType& post) {
    if (post.state == PostType::State::refused) throw agreement_error(post.refusal);
    return true;
  }

  /// The thread on the other side.
  static int peer_of(const PostType& post) { return post.direction == Direction::send ? post.to : post.from; }

  /// Nobody will come for it any more.
  bool given_up(const PostType& post) const {
    return post.state == PostType::State::pending && (failure_ || left_[static_cast<std::size_t>(peer_of(post))]);
  }

  static std::string unfinished(int thread, const PostType& post, const Membership& members, const Where& where,
                                std::string_view what) {
    return detail::message("rank ", rank_of(members, thread), what, rank_of(members, peer_of(post)), " at ",
                           where.hop < 0 ? "" : detail::message("hop ", where.hop, " of "), where.what, " (",
                           post.direction == Direction::send ? "sending " : "receiving ", post.bytes.size(), " bytes)");
  }

  [[noreturn]] void abandon_left(int thread, const PostType& post, const Membership& members, const Where& where) {
    abandon(thread,
            peer_failed(rank_of(members, peer_of(post)),
                        unfinished(thread, post, members, where, " cannot finish: the group was left by rank ")));
  }

  [[noreturn]] void abandon_late(int thread, const PostType& post, const Membership& members, const Where& where) {
    const std::string what = detail::message(" waited ", deadline_.count(), " s for rank ");
    abandon(thread, timeout_error(rank_of(members, peer_of(post)), unfinished(thread, post, members, where, what)));
  }

  template <class Condition>
  static int missing(const Membership& members, const Meeting& meeting, const Condition& condition) {
    for (std::size_t rank = 0; rank < members.threads.size(); ++rank) {
      if (!meeting.here[rank] && condition(members.threads[rank])) return static_cast<int>(rank);
    }
    return -1;
  }

  void throw_if_failed(const Membership& members) const {
    if (!failure_) return;
    const int rank = rank_of(members, failure_->thread);
    const std::string who =
        rank >= 0 ? detail::message("rank ", rank) : detail::message("rank ", failure_->thread, " of the whole group");
    throw peer_failed(rank, detail::message(who, " failed: ", failure_->what));
  }

  void refuse(PostType& mine, PostType& other, const Membership& members) {
    const PostType& send = mine.direction == Direction::send ? mine : other;
    const PostType& receive = mine.direction == Direction::send ? other : mine;
    settle(mine, other, PostType::State::refused,
           detail::message("rank ", rank_of(members, send.from), " sends ", send.bytes.size(), " bytes where rank ",
                           rank_of(members, send.to), " expects ", receive.bytes.size()));
    wake(peer_of(mine));
  }

  static void settle(PostType& mine, PostType& other, typename PostType::State state, const std::string& refusal = {}) {
    mine.refusal = other.refusal = refusal;
    mine.state = other.state = state;
  }

  Meeting& meeting_of(const Membership& members) {
    for (Meeting& meeting : meetings_) {
      if (meeting.context == members.context) return meeting;
    }
    Meeting& meeting = meetings_.emplace_back();
    meeting.context = members.context;
    meeting.data.resize(members.threads.size());
    meeting.here.resize(members.threads.size(), false);
    return meeting;
  }

  PostType* match(const PostType& mine) {
    const auto found = std::find_if(pending_.begin(), pending_.end(), [&](const PostType* other) {
      return other->context == mine.context && other->from == mine.from && other->to == mine.to &&
             other->direction != mine.direction;
    });
    if (found == pending_.end()) return nullptr;
    PostType* other = *found;
    pending_.erase(found);
    return other;
  }

  PostType* take_post() {
    if (free_.empty()) return &posts_.emplace_back();
    PostType* post = free_.back();
    free_.pop_back();
    return post;
  }

  void give_back(PostType* post) {
    post->bytes = {};
    free_.push_back(post);
  }

  template <class Exec, class Bytes>
  static void copy(const Exec& exec, const Bytes& target, const Bytes& source) {
    if (source.size() == 0) return;
    if constexpr (Kokkos::SpaceAccessibility<Kokkos::HostSpace, MemorySpace>::accessible) {
      // In slices that stay in the cache: at 16 MiB memcpy goes around it, at a third of the speed.
      constexpr std::size_t slice = std::size_t{1} << 20;
      for (std::size_t begin = 0; begin < source.size(); begin += slice) {
        std::memcpy(target.data() + begin, source.data() + begin, std::min(slice, source.size() - begin));
      }
    } else {
      Kokkos::deep_copy(exec, target, source);
      exec.fence("rondo::copy");
    }
  }

  void wake(int thread) { wake_[static_cast<std::size_t>(thread)].notify_all(); }
  void wake_all() {
    for (auto& waiting : wake_) waiting.notify_all();
  }

  std::mutex mutex_;
  Deadline deadline_;
  std::deque<std::condition_variable> wake_;
  std::vector<bool> left_;
  std::optional<Failure> failure_;
  std::vector<std::exception_ptr> escaped_;
  std::deque<PostType> posts_;
  std::vector<PostType*> free_;
  std::vector<PostType*> pending_;
  std::deque<Meeting> meetings_;
  int last_context_ = 0;
};

}  // namespace rondo::in_process
