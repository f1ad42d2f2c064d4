/// \file
/// A started exchange over NCCL.
#pragma once

#include <rondo/comm/nccl/traffic.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace rondo::nccl {

/// What is given to NCCL cannot be called back: destroying a transfer leaves it under way, and its memory is kept until
/// the device has let go of it.
template <class TrafficT>
class Transfer {
 public:
  using Exec = typename TrafficT::Exec;

  Transfer() = default;
  Transfer(std::shared_ptr<TrafficT> traffic, std::int64_t number) : traffic_(std::move(traffic)), number_(number) {}
  Transfer(Transfer&&) noexcept = default;
  Transfer& operator=(Transfer&&) noexcept = default;

  /// True when everything has left and arrived. Never waits. \throws timeout_error, peer_failed when it never will
  bool test() {
    if (is_done()) return true;
    traffic_->look();
    return is_done();
  }

  /// The host waits. \throws timeout_error, peer_failed
  void wait() {
    if (!is_done()) traffic_->wait(number_);
  }

  /// Later work on `exec` runs after arrival. The host goes on, but for the first exchange with a peer, which it waits
  /// for NCCL to connect with. \throws timeout_error, peer_failed
  void order(const Exec& exec) {
    if (!is_done()) traffic_->order(exec, number_);
  }

 private:
  bool is_done() const { return traffic_ == nullptr || traffic_->is_done(number_); }

  std::shared_ptr<TrafficT> traffic_;
  std::int64_t number_ = 0;
};

}  // namespace rondo::nccl
