/// \file
/// One rank's copies on its own stream, and the events that order them against the ranks' work.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/in_process/hub.hpp>
#include <rondo/comm/streams.hpp>

#include <chrono>
#include <memory>
#include <optional>

namespace rondo::in_process {

/// What a posted half carries where streams copy. Its events are made once and used again with the post.
template <Streams S>
struct Moments {
  typename S::event before{};  ///< on the instance of the rank that posted it, when it did
  typename S::event done{};    ///< behind the copy
  bool has_events = false;
  bool is_done = false;                                        ///< known to be
  std::optional<std::chrono::steady_clock::time_point> began;  ///< since when nothing of its own rank's holds it up
  std::shared_ptr<const Membership> members;                   ///< of a transfer that is gone, with where it was
  Where where;

  void record_before(typename S::stream stream) {
    if (!has_events) {
      before = S::make_event();
      done = S::make_event();
      has_events = true;
    }
    is_done = false;
    began.reset();
    S::record(before, stream);
  }
  void drop_events() {
    if (!has_events) return;
    S::drop_event(before);
    S::drop_event(done);
    has_events = false;
  }
};

/// Used by its rank's thread alone.
template <class PostType, Streams S>
class CopyQueue {
 public:
  /// Queues the copy of a message between the work before its two halves and what is told to wait for it.
  template <class Bytes>
  void copy(PostType& mine, PostType& other, const Bytes& target, const Bytes& source) {
    if (!has_stream_) {
      stream_ = S::make_stream();
      has_stream_ = true;
    }
    // A stream waits for events only that are recorded already, so whatever is queued runs to its end, whoever fails; and for
    // the receiver's, whose earlier work may still read the target, or send it on: slots are used again only behind that.
    S::wait(stream_, mine.before);
    S::wait(stream_, other.before);
    if (source.size() > 0) S::copy(stream_, target.data(), source.data(), source.size());
    S::record(mine.done, stream_);
    S::record(other.done, stream_);
  }

  /// Posts whose transfers are gone before their copy was done, the oldest first.
  PostType* first() const { return first_; }
  void keep(PostType* post) {
    post->next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = post;
    last_ = post;
  }
  void pop() {
    first_ = first_->next;
    if (first_ == nullptr) last_ = nullptr;
  }

  void drop_stream() {
    if (has_stream_) S::drop_stream(stream_);
    has_stream_ = false;
  }

 private:
  typename S::stream stream_{};
  bool has_stream_ = false;
  PostType* first_ = nullptr;
  PostType* last_ = nullptr;
};

}  // namespace rondo::in_process
