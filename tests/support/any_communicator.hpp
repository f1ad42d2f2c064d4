/// \file
/// A communicator whose transport is chosen at run time: what is tested over several of them is compiled once.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace rondo::test {

class any_communicator {
 public:
  using execution_space = Kokkos::DefaultExecutionSpace;
  using memory_space = execution_space::memory_space;
  static constexpr bool stream_ordered = false;
  static constexpr bool moves_when_asked = true;  // it may be one of those

 private:
  struct TransferBase {
    virtual ~TransferBase() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
    virtual void order(const execution_space& exec) = 0;
  };
  template <Transfer<execution_space> T>
  struct TransferOf : TransferBase {
    explicit TransferOf(T started) : transfer(std::move(started)) {}
    bool test() override { return transfer.test(); }
    void wait() override { transfer.wait(); }
    void order(const execution_space& exec) override { transfer.order(exec); }
    T transfer;
  };

 public:
  class Started {
   public:
    explicit Started(std::unique_ptr<TransferBase> transfer) : transfer_(std::move(transfer)) {}
    bool test() { return transfer_->test(); }
    void wait() { transfer_->wait(); }
    void order(const execution_space& exec) { transfer_->order(exec); }

   private:
    std::unique_ptr<TransferBase> transfer_;
  };

  template <class Comm>
    requires(!std::same_as<Comm, any_communicator>) && Communicator<Comm>
  explicit any_communicator(Comm comm) : comm_(std::make_unique<Of<Comm>>(std::move(comm))) {}

  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  execution_space execution_instance() const { return comm_->execution_instance(); }
  Deadline deadline() const { return comm_->deadline(); }
  Started exchange(const execution_space& after, std::span<const Segment<memory_space>> segments, Where where = {}) {
    return comm_->exchange(after, segments, where);
  }
  void all_reduce(std::span<float> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) { comm_->broadcast(bytes, root); }
  void barrier() { comm_->barrier(); }
  any_communicator split(int color, int key) { return any_communicator(comm_->split(color, key)); }
  bool agree(bool ok) { return comm_->agree(ok); }
  /// \throws argument_error where the transport has no such thing
  any_communicator shrink() { return any_communicator(comm_->shrink()); }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual execution_space execution_instance() const = 0;
    virtual Deadline deadline() const = 0;
    virtual Started exchange(const execution_space&, std::span<const Segment<memory_space>>, Where) = 0;
    virtual void all_reduce(std::span<float>, Reduction) = 0;
    virtual void all_reduce(std::span<double>, Reduction) = 0;
    virtual void all_reduce(std::span<std::int64_t>, Reduction) = 0;
    virtual void broadcast(std::span<std::byte>, int) = 0;
    virtual void barrier() = 0;
    virtual std::unique_ptr<Base> split(int, int) = 0;
    virtual bool agree(bool) = 0;
    virtual std::unique_ptr<Base> shrink() = 0;
  };

  template <class Comm>
  struct Of : Base {
    explicit Of(Comm given) : comm(std::move(given)) {}
    int rank() const override { return comm.rank(); }
    int size() const override { return comm.size(); }
    execution_space execution_instance() const override { return comm.execution_instance(); }
    Deadline deadline() const override { return comm.deadline(); }
    Started exchange(const execution_space& after, std::span<const Segment<memory_space>> segments,
                     Where where) override {
      auto started = comm.exchange(after, segments, where);
      return Started(std::make_unique<TransferOf<decltype(started)>>(std::move(started)));
    }
    void all_reduce(std::span<float> values, Reduction reduction) override { comm.all_reduce(values, reduction); }
    void all_reduce(std::span<double> values, Reduction reduction) override { comm.all_reduce(values, reduction); }
    void all_reduce(std::span<std::int64_t> values, Reduction reduction) override {
      comm.all_reduce(values, reduction);
    }
    void broadcast(std::span<std::byte> bytes, int root) override { comm.broadcast(bytes, root); }
    void barrier() override { comm.barrier(); }
    std::unique_ptr<Base> split(int color, int key) override { return std::make_unique<Of>(comm.split(color, key)); }
    bool agree(bool ok) override { return comm.agree(ok); }
    std::unique_ptr<Base> shrink() override {
      if constexpr (requires { comm.shrink(); }) {
        return std::make_unique<Of>(comm.shrink());
      } else {
        throw argument_error("this communicator cannot shrink");
      }
    }
    Comm comm;
  };

  explicit any_communicator(std::unique_ptr<Base> comm) : comm_(std::move(comm)) {}

  std::unique_ptr<Base> comm_;
};

static_assert(Communicator<any_communicator>);

}  // namespace rondo::test
