/// \file
/// The communicator whose ranks are MPI processes.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/mpi/collective.hpp>
#include <rondo/comm/mpi/options.hpp>
#include <rondo/comm/mpi/survivors.hpp>
#include <rondo/comm/mpi/transfer.hpp>

#include <Kokkos_Core.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rondo {

/// Ranks of an MPI communicator. Their messages travel in one duplicate of it and never meet the user's own. MPI has to
/// be initialized with MPI_THREAD_FUNNELED or higher; all calls come from one thread at a time.
///
/// Nothing here waits inside MPI: every call polls, so that it can leave at the deadline. Who leaves with an exception
/// tells the others, whose calls then throw peer_failed at once. After that the communicator, and all that were split
/// off it, refuse every call; what MPI may still be using stays until the process ends.
template <class Exec = Kokkos::DefaultExecutionSpace>
class mpi_communicator {
 public:
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr bool stream_ordered = false;
  static constexpr bool moves_when_asked = true;

  /// Collective over `comm`, which has to live on only for the time of this call.
  /// \param exec  this rank's execution-space instance
  /// \throws argument_error when MPI is not usable or an option makes no sense; timeout_error
  explicit mpi_communicator(MPI_Comm comm, const MpiOptions& options = {}, Exec exec = Exec{})
      : exec_(std::move(exec)), collective_(std::make_unique<mpi::Collective>()) {
    if (!(options.deadline.count() > 0)) {
      throw argument_error(detail::message("mpi_communicator: a deadline of ", options.deadline.count(), " s"));
    }
    if (options.slice_bytes < 1 || options.slice_bytes > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
      throw argument_error(detail::message("mpi_communicator: slices of ", options.slice_bytes,
                                           " bytes, they must have 1 to 2147483647"));
    }
    slice_bytes_ = options.slice_bytes;
    staged_ =
        options.buffers == MpiBuffers::staged || (options.buffers == MpiBuffers::automatic && !mpi_reads_memory());
    auto duplicate = std::make_shared<mpi::Duplicate>(comm, options.deadline);
    mpi::Members members;
    members.context = duplicate->take_context(0);
    members.rank = duplicate->rank();
    members.processes.resize(static_cast<std::size_t>(duplicate->size()));
    std::iota(members.processes.begin(), members.processes.end(), 0);
    shared_ = std::make_shared<Shared>();
    shared_->group = std::make_shared<mpi::Group>(std::move(duplicate), members, options.deadline);
    shared_->members = std::move(members);
  }
  mpi_communicator(mpi_communicator&&) noexcept = default;
  mpi_communicator& operator=(mpi_communicator&&) noexcept = default;

  /// A rank that unwinds past its communicator lets the others know.
  ~mpi_communicator() {
    if (shared_ && std::uncaught_exceptions() > exceptions_) {
      group().fail(members().process(rank()), detail::message("rank ", rank(), " left with an exception"));
    }
  }

  int rank() const { return members().rank; }
  int size() const { return members().size(); }
  const Exec& execution_instance() const { return exec_; }
  /// Seconds that any call waits for its peers.
  Deadline deadline() const { return group().deadline(); }

  /// Starts all segments as one group, after the work queued on `after`. The transfer moves when it is asked (`test`,
  /// `wait`), as MPI does.
  /// \throws argument_error for an unknown peer; peer_failed
  mpi::Transfer<Exec> exchange(const Exec& after, std::span<const Segment<memory_space>> segments, Where where = {}) {
    for (const auto& segment : segments) check_peer("exchange", segment.peer);
    group().throw_if_failed(members());
    auto exchange = shared_->take();
    if (exchange->messages.size() < segments.size()) exchange->messages.resize(segments.size());
    exchange->count = segments.size();
    for (std::size_t i = 0; i < segments.size(); ++i) {
      exchange->messages[i].prepare(segments[i], staged_);
      exchange->messages[i].copy_out(after);
    }
    fence_queue(after, "rondo::send");
    const int tag = mpi::Duplicate::tag(members().context, mpi::Kind::exchange);
    // Receives first: a message that finds its place needs no detour.
    for (const auto direction : {Direction::receive, Direction::send}) {
      for (auto& message : exchange->started()) {
        if (message.direction() != direction) continue;
        message.start(group().comm(), members().process(message.peer()), tag, slice_bytes_);
      }
    }
    return {shared_, std::move(exchange), where};
  }

  /// Combines the values of all ranks in place, in the order of ranks.
  /// \throws agreement_error when lengths, types or reductions differ between ranks; timeout_error, peer_failed
  template <class T>
    requires std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t>
  void all_reduce(std::span<T> values, Reduction reduction) {
    static constexpr const char* names[] = {"sum", "minimum", "maximum"};
    const char* type = std::same_as<T, float> ? "float" : std::same_as<T, double> ? "double" : "int64";
    collective_->all_reduce(
        group(), members(),
        signature("all_reduce: %s of %zu values of type %s", names[static_cast<int>(reduction)], values.size(), type),
        values, reduction);
  }
  void all_reduce(std::span<float> values, Reduction reduction) { all_reduce<float>(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { all_reduce<double>(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { all_reduce<std::int64_t>(values, reduction); }

  /// Copies the bytes of rank `root` to all. \throws agreement_error when lengths or roots differ between ranks
  void broadcast(std::span<std::byte> bytes, int root) {
    check_peer("broadcast", root);
    collective_->broadcast(group(), members(), signature("broadcast from rank %d of %zu bytes", root, bytes.size()),
                           bytes, root);
  }

  /// Returns when every rank has called it.
  void barrier() { collective_->barrier(group(), members(), "barrier"); }

  /// True on every rank when every rank said true.
  bool agree(bool ok) {
    std::int64_t value = ok ? 1 : 0;
    all_reduce(std::span{&value, 1}, Reduction::minimum);
    return value == 1;
  }

  /// The communicator of all ranks that gave the same color, in the order of (key, rank). A failure anywhere still
  /// reaches everyone. Makes no MPI communicator and is not bound by MPI's limits of those.
  mpi_communicator split(int color, int key) {
    struct Choice {
      int color, key, context;
    };
    const Choice mine{color, key, group().duplicate().next_context()};
    const std::vector<Choice> all = collective_->gather(group(), members(), "split", mine);
    mpi::Members part;
    for (const Choice& choice : all) part.context = std::max(part.context, choice.context);
    group().duplicate().take_context(part.context);
    std::vector<int> ranks;
    for (int other = 0; other < size(); ++other) {
      if (all[static_cast<std::size_t>(other)].color == color) ranks.push_back(other);
    }
    std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) {
      return all[static_cast<std::size_t>(a)].key < all[static_cast<std::size_t>(b)].key;
    });
    for (const int other : ranks) part.processes.push_back(members().process(other));
    part.rank = part.rank_of(members().process(rank()));
    return {*this, std::move(part), shared_->group};
  }

  /// Takes in what others say of failures. Never waits. \throws peer_failed when a rank is known to have failed
  void listen() {
    group().listen();
    group().throw_if_failed(members());
  }

  /// Tells the others that this rank has failed: every call throws peer_failed from now on.
  void give_up(const std::string& what) { group().fail(members().process(rank()), what); }

  /// After a failure: a communicator of the ranks that are left, in their order, with which work goes on. All of them
  /// call it; gone are those that have died, and those that do not answer within the deadline. Returns within
  /// three deadlines. This communicator stays as unusable as it is. Processes outlive the death of another only where
  /// the launcher lets them (`mpiexec --with-ft ulfm` of Open MPI).
  /// \throws argument_error on a part that was split off: shrink the whole and split again
  /// \throws agreement_error when ranks failed meanwhile: call it again. peer_failed on a rank taken for gone by others
  mpi_communicator shrink() {
    if (members().context != group().whole().context) {
      throw argument_error("shrink: this communicator was split off another; shrink that one and split again");
    }
    // Those who have not heard of a failure must not be taken for gone.
    group().fail(members().process(rank()), detail::message("rank ", rank(), " has called shrink"));
    if (!roll_call_) roll_call_ = std::make_unique<mpi::RollCall>(group());
    mpi::Members left = roll_call_->survivors();
    auto group_left = std::make_shared<mpi::Group>(group().shared_duplicate(), left, deadline());
    return {*this, std::move(left), std::move(group_left)};
  }

 private:
  using Shared = mpi::Shared<memory_space>;

  /// Another communicator in the same duplicate.
  mpi_communicator(const mpi_communicator& parent, mpi::Members members, std::shared_ptr<mpi::Group> group)
      : exec_(parent.exec_),
        slice_bytes_(parent.slice_bytes_),
        staged_(parent.staged_),
        shared_(std::make_shared<Shared>()),
        collective_(std::make_unique<mpi::Collective>()) {
    shared_->group = std::move(group);
    shared_->members = std::move(members);
  }

  mpi::Group& group() const { return *shared_->group; }
  const mpi::Members& members() const { return shared_->members; }

  void check_peer(const char* what, int peer) const {
    if (peer < 0 || peer >= size()) {
      throw argument_error(detail::message(what, ": rank ", peer, " does not exist, there are ", size(), " ranks"));
    }
  }

  /// May MPI be given addresses in the memory space? Host memory always; a device's where the library says so.
  static bool mpi_reads_memory() {
    if constexpr (Kokkos::SpaceAccessibility<Kokkos::HostSpace, memory_space>::accessible) {
      return true;
    } else {
#if defined(KOKKOS_ENABLE_CUDA) && defined(MPIX_CUDA_AWARE_SUPPORT)
      return MPIX_Query_cuda_support() == 1;
#elif defined(KOKKOS_ENABLE_HIP) && (defined(MPIX_ROCM_AWARE_SUPPORT) || defined(OMPI_HAVE_MPI_EXT_ROCM))
      return MPIX_Query_rocm_support() == 1;
#else
      return false;
#endif
    }
  }

  /// What ranks must agree on.
  template <class... Values>
  std::string_view signature(const char* format, const Values&... values) {
    const int length = std::snprintf(signature_.data(), signature_.size(), format, values...);
    return {signature_.data(), static_cast<std::size_t>(length)};
  }

  Exec exec_;
  std::size_t slice_bytes_ = 0;
  bool staged_ = false;
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<mpi::Collective> collective_;
  std::unique_ptr<mpi::RollCall> roll_call_;
  std::array<char, 96> signature_{};
  int exceptions_ = std::uncaught_exceptions();
};

static_assert(Communicator<mpi_communicator<>>);

}  // namespace rondo
