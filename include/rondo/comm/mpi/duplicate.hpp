/// \file
/// The one duplicate of a user's communicator in which all of Rondo's messages travel, and how their tags are made.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/mpi/error.hpp>

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace rondo::mpi {

using Clock = std::chrono::steady_clock;

/// Kinds of messages, told apart by their tags.
enum class Kind { exchange, meeting, bulk, notice, roll_call };

/// Throws argument_error where MPI cannot be used by the calling thread.
inline void check_usable() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized) {
    throw argument_error(
        detail::message("mpi_communicator: MPI is ", finalized ? "finalized already" : "not initialized"));
  }
  int level = MPI_THREAD_SINGLE;
  check(MPI_Query_thread(&level), "MPI_Query_thread");
  if (level < MPI_THREAD_FUNNELED) {
    throw argument_error(
        "mpi_communicator: MPI was initialized with MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED is needed at least "
        "(MPI_Init_thread)");
  }
  int is_main = 1;
  check(MPI_Is_thread_main(&is_main), "MPI_Is_thread_main");
  if (level == MPI_THREAD_FUNNELED && !is_main) {
    throw argument_error("mpi_communicator: with MPI_THREAD_FUNNELED only the thread that initialized MPI may use it");
  }
}

/// Owns the duplicate. A context is a communicator of Rondo's within it: two that share a pair of ranks have different
/// contexts, so that no message of one is taken for one of the other. That makes split() and shrink() free of MPI's own
/// collectives, which nobody can leave when a rank is gone.
class Duplicate {
 public:
  /// Collective over `given`. \throws timeout_error
  Duplicate(MPI_Comm given, Deadline deadline) {
    check_usable();
    int between_groups = 0;
    if (given != MPI_COMM_NULL) check(MPI_Comm_test_inter(given, &between_groups), "MPI_Comm_test_inter");
    if (given == MPI_COMM_NULL || between_groups) {
      throw argument_error(
          detail::message("mpi_communicator of ", between_groups ? "an intercommunicator" : "MPI_COMM_NULL"));
    }
    // The user's error handler may be one that ends the program: it is put back afterwards.
    MPI_Errhandler handler = MPI_ERRHANDLER_NULL;
    check(MPI_Comm_get_errhandler(given, &handler), "MPI_Comm_get_errhandler");
    MPI_Comm_set_errhandler(given, MPI_ERRORS_RETURN);
    MPI_Request request = MPI_REQUEST_NULL;
    int done = 0;
    int code = MPI_Comm_idup(given, &comm_, &request);
    const auto end = Clock::now() + deadline;
    while (code == MPI_SUCCESS && !done && Clock::now() < end) {
      code = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (!done) std::this_thread::yield();
    }
    MPI_Comm_set_errhandler(given, handler);
    MPI_Errhandler_free(&handler);
    check(code, "MPI_Comm_idup");
    if (!done) {
      comm_ = MPI_COMM_NULL;  // it may still come into being: nobody will use it
      throw timeout_error(
          -1, detail::message("mpi_communicator: not all ranks made theirs within ", deadline.count(), " s"));
    }
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    int* largest = nullptr;
    int found = 0;
    check(MPI_Comm_get_attr(comm_, MPI_TAG_UB, &largest, &found), "MPI_Comm_get_attr");
    contexts_ = (found ? *largest : 32767) / kinds;
  }
  Duplicate(const Duplicate&) = delete;
  Duplicate& operator=(const Duplicate&) = delete;

  ~Duplicate() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    // After a failure messages may be under way for ever: what they use is left to the end of the process.
    if (comm_ != MPI_COMM_NULL && !abandoned_ && !finalized) MPI_Comm_free(&comm_);
  }

  MPI_Comm comm() const { return comm_; }
  int rank() const { return number(MPI_Comm_rank); }
  int size() const { return number(MPI_Comm_size); }
  static int tag(int context, Kind kind) { return context * kinds + static_cast<int>(kind); }

  /// Must not be freed any more.
  void abandon() { abandoned_ = true; }

  /// The first context that this rank has not seen in use.
  int next_context() const { return next_context_; }
  /// Says that this one is in use. \throws error when there are no more tags
  int take_context(int context) {
    if (context >= contexts_) {
      throw error(detail::message("mpi_communicator: more than ", contexts_,
                                  " communicators were split off: MPI has no more tags"));
    }
    if (next_context_ <= context) next_context_ = context + 1;
    return context;
  }

 private:
  static constexpr int kinds = 8;

  int number(int (*ask)(MPI_Comm, int*)) const {
    int result = 0;
    check(ask(comm_, &result), "MPI_Comm_rank or MPI_Comm_size");
    return result;
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int contexts_ = 0;
  int next_context_ = 0;
  bool abandoned_ = false;
};

}  // namespace rondo::mpi
