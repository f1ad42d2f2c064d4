/// \file
/// The hub of an in-process group whose execution space has streams: the device waits and copies, the host goes on.
#pragma once

#include <rondo/comm/in_process/copy_queue.hpp>
#include <rondo/comm/in_process/hub.hpp>
#include <rondo/comm/patience.hpp>
#include <rondo/comm/streams.hpp>
#include <rondo/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

namespace rondo::in_process {

/// A posted half carries an event of its rank's instance. Whoever posts the second half queues the copy after both events,
/// on a stream of its own, with an event behind it for each side. "Copied" below means queued for the hub that it derives
/// from, which says when both halves are there; what has been done is asked of the events.
///
/// A deadline counts from when the other half is there and the rank's own work before the message is done.
template <class MemorySpace, Streams S>
class StreamHub : public Hub<MemorySpace, Moments<S>> {
  using Base = Hub<MemorySpace, Moments<S>>;

 public:
  using PostType = typename Base::PostType;
  using Exec = typename S::execution_space;
  using Bytes = typename Segment<MemorySpace>::Bytes;

  StreamHub(int threads, Deadline deadline) : Base(threads, deadline), queues_(static_cast<std::size_t>(threads)) {}
  StreamHub(const StreamHub&) = delete;
  StreamHub& operator=(const StreamHub&) = delete;
  /// What the device may still touch after a failure stays to the end of the process.
  ~StreamHub() {
    if (std::ranges::all_of(queues_, [](const Queue& queue) { return queue.first() == nullptr; })) {
      for (PostType& post : this->posts_) post.drop_events();
      for (Queue& queue : queues_) queue.drop_stream();
    } else {
      stay();
    }
  }

  /// Posts half a message, after the work queued on `after`; queues the copy when the other half is there.
  PostType* post(const Exec& after, const Membership& members, int context, int from, int to, Direction direction,
                 const Bytes& bytes) {
    PostType* mine = this->with_lock([this] { return this->take_post(); });
    try {
      mine->record_before(S::stream_of(after));
    } catch (...) {
      this->with_lock([&] { this->give_back(mine); });
      throw;
    }
    const int thread = direction == Direction::send ? from : to;
    Queue& queue = queue_of(thread);
    return this->post_with(
        [&](PostType& one, PostType& other, const Bytes& target, const Bytes& source) {
          guarded(thread, [&] { queue.copy(one, other, target, source); });
        },
        mine, members, context, from, to, direction, bytes);
  }

  /// True when the message has been copied, false while it may still be. Never waits.
  /// \throws timeout_error, peer_failed, agreement_error when it never will be
  bool test(int thread, PostType* post, const Membership& members, const Where& where) {
    return Base::test(thread, post, members, where) && has_arrived(thread, *post, members, where);
  }

  /// Returns when the message has been copied. \throws timeout_error, peer_failed, agreement_error
  void wait(int thread, PostType* post, const Membership& members, const Where& where) {
    Base::wait(thread, post, members, where);
    for (detail::Patience patience; !has_arrived(thread, *post, members, where); patience.pause()) {
    }
  }

  /// Work queued later on `exec` runs after the copy: on the sender's side too, where it may write the source again. The
  /// host waits until the other half has been posted. \throws timeout_error, peer_failed, agreement_error
  void order(int thread, PostType* post, const Membership& members, const Where& where, const Exec& exec) {
    if constexpr (S::queues) {
      Base::wait(thread, post, members, where);
      guarded(thread, [&] { S::wait(S::stream_of(exec), post->done); });
    } else {
      wait(thread, post, members, where);
    }
  }

  /// Gives a post back. The memory of one that the device has yet to copy is kept until it has.
  void release(int thread, PostType* post, std::shared_ptr<const Membership> members, const Where& where) {
    std::unique_lock lock(this->mutex_);
    this->withdraw(lock, thread, post);
    if (post->state != PostType::State::done || post->is_done) return this->give_back(post);
    post->members = std::move(members);
    post->where = where;
    queue_of(thread).keep(post);
  }

  /// Lets go of what has been copied. Never waits. \throws timeout_error for what should have been; error
  void look(int thread) {
    Queue& queue = queue_of(thread);
    while (PostType* oldest = queue.first()) {
      if (!is_done(thread, *oldest)) return watch_clock(thread, *oldest, *oldest->members, oldest->where);
      queue.pop();
      const Bytes freed_without_the_lock = std::exchange(oldest->bytes, Bytes{});
      this->with_lock([&] { this->give_back(oldest); });
    }
  }

  /// Returns when the device has copied all that this rank has let go of. \throws timeout_error, error
  void finish(int thread) {
    for (detail::Patience patience; queue_of(thread).first() != nullptr; patience.pause()) look(thread);
  }
  /// The same at the end of a rank's work, which has been told already when the group has failed.
  void finish_unless_failed(int thread) {
    if (!this->with_lock([this] { return this->failure_.has_value(); })) finish(thread);
  }
  /// The same after a failure, for a second at most.
  void finish_quietly(int thread) {
    const auto end = Clock::now() + std::chrono::seconds(1);
    for (detail::Patience patience; queue_of(thread).first() != nullptr && Clock::now() < end; patience.pause()) {
      try {
        look(thread);
      } catch (const std::exception&) {  // the group is broken already
      }
    }
  }

 private:
  using Queue = CopyQueue<PostType, S>;
  using Clock = std::chrono::steady_clock;

  void stay() {
    static std::mutex mutex;
    static auto* const all = new std::deque<std::pair<std::deque<PostType>, std::deque<Queue>>>;
    const std::lock_guard lock(mutex);
    all->emplace_back(std::move(this->posts_), std::move(queues_));
  }

  Queue& queue_of(int thread) { return queues_[static_cast<std::size_t>(thread)]; }

  bool is_done(int thread, PostType& post) {
    if (!post.is_done) guarded(thread, [&] { post.is_done = S::reached(post.done); });
    return post.is_done;
  }

  /// As is_done, with an eye on the clock.
  bool has_arrived(int thread, PostType& post, const Membership& members, const Where& where) {
    if (is_done(thread, post)) return true;
    look(thread);
    watch_clock(thread, post, members, where);
    return false;
  }

  void watch_clock(int thread, PostType& post, const Membership& members, const Where& where) {
    if (!post.began) {
      guarded(thread, [&] {
        if (S::reached(post.before)) post.began = Clock::now();
      });
    } else if (Clock::now() - *post.began > this->deadline()) {
      this->with_lock([&] { this->abandon_late(thread, post, members, where); });
    }
  }

  /// What the runtime says has gone wrong breaks the group.
  template <class F>
  void guarded(int thread, const F& f) {
    try {
      f();
    } catch (const std::exception& failure) {
      this->give_up(thread, failure.what());
      throw;
    }
  }

  std::deque<Queue> queues_;  ///< of each thread, which alone uses it
};

/// A group's hub.
template <class Exec, class S>
struct hub_of {
  using type = Hub<typename Exec::memory_space>;
};
template <class Exec, Streams S>
struct hub_of<Exec, S> {
  using type = StreamHub<typename Exec::memory_space, S>;
};

}  // namespace rondo::in_process
