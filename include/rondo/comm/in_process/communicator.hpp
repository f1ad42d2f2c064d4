/// \file
/// The communicator of one rank of an in-process group, and its transfers.
#pragma once

#include <rondo/comm/in_process/hub.hpp>
#include <rondo/comm/in_process/stream_hub.hpp>
#include <rondo/comm/reduction.hpp>
#include <rondo/comm/streams.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace rondo {
namespace in_process {

/// A started exchange between threads. Destroying it before it is done withdraws what nobody has matched yet; where a
/// device copies, memory is kept until it has.
template <class Exec, class S = streams_or_none<Exec>>
class Transfer {
 public:
  using HubType = typename hub_of<Exec, S>::type;
  using PostType = typename HubType::PostType;

  Transfer() = default;
  Transfer(HubType& hub, std::shared_ptr<const Membership> members, int thread, Where where)
      : hub_(&hub), members_(std::move(members)), thread_(thread), where_(where) {}
  Transfer(Transfer&& other) noexcept { swap(other); }
  Transfer& operator=(Transfer&& other) noexcept {
    Transfer(std::move(other)).swap(*this);
    return *this;
  }
  ~Transfer() { release(); }

  void add(PostType* post) {
    post->next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = post;
    last_ = post;
  }

  /// True when everything has left and arrived. Never blocks.
  /// \throws peer_failed, agreement_error when something never will
  bool test() {
    bool all = true;
    for (PostType* post = first_; post != nullptr; post = post->next) {
      all = hub_->test(thread_, post, *members_, where_) && all;
    }
    return all;
  }

  /// \throws timeout_error, peer_failed; agreement_error when a sender and a receiver have different sizes in mind
  void wait() {
    for (PostType* post = first_; post != nullptr; post = post->next) hub_->wait(thread_, post, *members_, where_);
    release();
  }

  /// Later work on `exec` runs after arrival. The host waits: with streams until the peers have started their part of it
  /// too, without until it is done. \throws as wait does
  void order([[maybe_unused]] const Exec& exec) {
    if constexpr (Streams<S>) {
      for (PostType* post = first_; post != nullptr; post = post->next) {
        hub_->order(thread_, post, *members_, where_, exec);
      }
      release();
    } else {
      wait();
    }
  }

 private:
  void release() {
    while (first_ != nullptr) {
      PostType* const post = std::exchange(first_, first_->next);
      if constexpr (Streams<S>) {
        hub_->release(thread_, post, members_, where_);
      } else {
        hub_->release(thread_, post);
      }
    }
    last_ = nullptr;
  }
  void swap(Transfer& other) {
    std::swap(hub_, other.hub_);
    std::swap(members_, other.members_);
    std::swap(thread_, other.thread_);
    std::swap(where_, other.where_);
    std::swap(first_, other.first_);
    std::swap(last_, other.last_);
  }

  HubType* hub_ = nullptr;
  std::shared_ptr<const Membership> members_;  // the communicator may be gone first
  int thread_ = 0;
  Where where_{};
  PostType* first_ = nullptr;
  PostType* last_ = nullptr;
};

}  // namespace in_process

/// One rank's end of an in-process group. Made by in_process_group::run and by split; valid while run lasts, on the
/// thread it was given to.
///
/// Where the execution space has streams, a device's, ranks share that device: messages are copies that it makes between
/// the work queued before them on both ranks' instances and the work queued after `order`, and the host waits only for the
/// other ranks' hosts.
template <class Exec = Kokkos::DefaultExecutionSpace, class S = streams_or_none<Exec>>
class in_process_communicator {
 public:
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  using HubType = typename in_process::hub_of<Exec, S>::type;
  static constexpr bool stream_ordered = Streams<S>;

  in_process_communicator(std::shared_ptr<HubType> hub, std::shared_ptr<const in_process::Membership> members, int rank,
                          Exec exec)
      : hub_(std::move(hub)), members_(std::move(members)), rank_(rank), exec_(std::move(exec)) {}

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(members_->threads.size()); }
  /// This rank's own execution-space instance.
  const Exec& execution_instance() const { return exec_; }
  /// Seconds that any call waits for its peers.
  Deadline deadline() const { return hub_->deadline(); }

  /// Starts all segments as one group, after the work queued on `after`.
  /// \throws argument_error for an unknown peer; peer_failed; with streams timeout_error for an earlier exchange
  in_process::Transfer<Exec, S> exchange(const Exec& after, std::span<const Segment<memory_space>> segments,
                                         Where where = {}) {
    for (const auto& segment : segments) check_peer("exchange", segment.peer);
    if constexpr (stream_ordered) {
      S::select(after);
      hub_->look(thread());
    } else {
      fence_queue(after, "rondo::send");
    }
    in_process::Transfer<Exec, S> transfer(*hub_, members_, thread(), where);
    for (const auto& segment : segments) {
      const int peer = members_->threads[static_cast<std::size_t>(segment.peer)];
      const bool sends = segment.direction == Direction::send;
      transfer.add(hub_->post(after, *members_, members_->context, sends ? thread() : peer, sends ? peer : thread(),
                              segment.direction, segment.bytes));
    }
    return transfer;
  }

  /// Returns when the work queued on `exec` and this rank's messages are done. \throws timeout_error when a peer's work,
  /// queued before its part of a message, is not done within the deadline
  void fence(const Exec& exec, const char* name)
    requires stream_ordered
  {
    hub_->finish(thread());
    exec.fence(name);
  }

  /// Combines the values of all ranks in place, in the order of ranks.
  /// \throws agreement_error when lengths or reductions differ between ranks; timeout_error, peer_failed
  template <class T>
    requires std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t>
  void all_reduce(std::span<T> values, Reduction reduction) {
    static constexpr const char* names[] = {"sum", "minimum", "maximum"};
    struct Mine {
      T* data;
    } mine{values.data()};
    const std::size_t count = values.size();
    const char* type = std::is_same_v<T, float> ? "float" : std::is_same_v<T, double> ? "double" : "int64_t";
    collective(signature("all_reduce: %s of %zu values of type %s", names[static_cast<int>(reduction)], count, type),
               &mine, [count, reduction](std::span<void* const> ranks) {
                 T* total = static_cast<Mine*>(ranks[0])->data;
                 for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
                   detail::combine(total, static_cast<Mine*>(ranks[rank])->data, count, reduction);
                 }
                 for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
                   std::copy_n(total, count, static_cast<Mine*>(ranks[rank])->data);
                 }
               });
  }
  void all_reduce(std::span<float> values, Reduction reduction) { all_reduce<float>(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { all_reduce<double>(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { all_reduce<std::int64_t>(values, reduction); }

  /// Copies the bytes of rank `root` to all. \throws agreement_error when lengths or roots differ between ranks
  void broadcast(std::span<std::byte> bytes, int root) {
    check_peer("broadcast", root);
    const std::size_t count = bytes.size();
    collective(signature("broadcast from rank %d of %zu bytes", root, count), bytes.data(),
               [count, root](std::span<void* const> ranks) {
                 for (void* target : ranks) {
                   if (count > 0 && target != ranks[static_cast<std::size_t>(root)]) {
                     std::memcpy(target, ranks[static_cast<std::size_t>(root)], count);
                   }
                 }
               });
  }

  /// Returns when every rank has called it.
  void barrier() {
    collective(signature("barrier"), nullptr, [](std::span<void* const>) {});
  }

  /// True on every rank when every rank said true.
  bool agree(bool ok) {
    std::int64_t value = ok ? 1 : 0;
    all_reduce(std::span{&value, 1}, Reduction::minimum);
    return value == 1;
  }

  /// The communicator of all ranks that gave the same color, in the order of (key, rank). A failure anywhere in the
  /// group still reaches everyone.
  in_process_communicator split(int color, int key) {
    struct Mine {
      int color, key, rank;
      std::shared_ptr<in_process::Membership> members;
    } mine{color, key, rank_, nullptr};
    collective(signature("split"), &mine, [this](std::span<void* const> ranks) {
      std::vector<Mine*> all;
      for (void* rank : ranks) all.push_back(static_cast<Mine*>(rank));
      std::stable_sort(all.begin(), all.end(), [](const Mine* a, const Mine* b) {
        return std::pair{a->color, a->key} < std::pair{b->color, b->key};
      });
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (i == 0 || all[i]->color != all[i - 1]->color) {
          all[i]->members = std::make_shared<in_process::Membership>();
          all[i]->members->context = hub_->new_context();
        } else {
          all[i]->members = all[i - 1]->members;
        }
        all[i]->members->threads.push_back(members_->threads[static_cast<std::size_t>(all[i]->rank)]);
      }
    });
    const auto& threads = mine.members->threads;
    const auto position = std::find(threads.begin(), threads.end(), thread());
    return {hub_, mine.members, static_cast<int>(position - threads.begin()), exec_};
  }

  /// Never waits. \throws peer_failed when a rank of the group is known to have failed
  void listen() { hub_->listen(*members_); }

  /// Tells the others that this rank has failed: every call of the group throws peer_failed from now on.
  void give_up(const std::string& what) { hub_->give_up(thread(), what); }

 private:
  int thread() const { return members_->threads[static_cast<std::size_t>(rank_)]; }

  void check_peer(const char* what, int peer) const {
    if (peer < 0 || peer >= size()) {
      throw argument_error(detail::message(what, ": rank ", peer, " does not exist, there are ", size(), " ranks"));
    }
  }

  /// What ranks must agree on, in a buffer of this communicator's (nothing is allocated).
  template <class... Values>
  std::string_view signature(const char* format, const Values&... values) {
    const int length = std::snprintf(signature_.data(), signature_.size(), format, values...);
    return {signature_.data(), static_cast<std::size_t>(length)};
  }
  std::string_view signature(const char* text) { return text; }

  template <class Combine>
  void collective(std::string_view signature, void* data, const Combine& combine) {
    hub_->collective(thread(), *members_, signature, data, combine);
  }

  std::shared_ptr<HubType> hub_;
  std::shared_ptr<const in_process::Membership> members_;
  int rank_;
  Exec exec_;
  std::array<char, 96> signature_{};
};

static_assert(Communicator<in_process_communicator<>>);

}  // namespace rondo
