/// \file
/// Several roles of one story that take turns: each is a thread, of which one runs at a time, until it has to wait or
/// offers its turn. So what happens is the same every time, and that nobody can go on is seen at once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::test {

class Turns {
 public:
  /// Plays all roles to their end. Throws what the first one threw that failed, or that they wait for each other.
  void play(const std::vector<std::function<void()>>& roles) {
    roles_ = std::vector<Role>(roles.size());
    present_ = 0;
    std::vector<std::thread> threads;
    for (std::size_t role = 0; role < roles.size(); ++role) {
      threads.emplace_back([this, role, &roles] { begin(role, roles[role]); });
    }
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

  /// The present role goes on when `ready()` says so; others have their turn meanwhile.
  void wait(std::function<bool()> ready) {
    if (ready()) return;
    pause(std::move(ready));
  }
  /// Others have their turn if they can go on.
  void offer() {
    pause([] { return true; });
  }

 private:
  struct Role {
    std::function<bool()> ready = [] { return true; };
    bool ended = false;
    std::condition_variable turn;
  };
  struct Ended {};

  void begin(std::size_t role, const std::function<void()>& act) {
    std::unique_lock lock(mutex_);
    try {
      await(lock, role);
      lock.unlock();
      act();
      lock.lock();
    } catch (const Ended&) {
      if (!lock.owns_lock()) lock.lock();
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      fail(std::current_exception());
    }
    roles_[role].ended = true;
    pass_on();
  }

  void pause(std::function<bool()> ready) {
    std::unique_lock lock(mutex_);
    const std::size_t role = present_;
    roles_[role].ready = std::move(ready);
    pass_on();
    await(lock, role);
  }

  void await(std::unique_lock<std::mutex>& lock, std::size_t role) {
    roles_[role].turn.wait(lock, [&] { return failure_ || present_ == role; });
    if (failure_) throw Ended{};
  }

  /// The turn is the next role's that can go on.
  void pass_on() {
    bool all_ended = true;
    for (std::size_t step = 1; step <= roles_.size(); ++step) {
      const std::size_t next = (present_ + step) % roles_.size();
      all_ended = all_ended && roles_[next].ended;
      if (roles_[next].ended || !roles_[next].ready()) continue;
      present_ = next;
      roles_[next].turn.notify_one();
      return;
    }
    if (!all_ended) fail(std::make_exception_ptr(std::runtime_error("everybody waits for somebody else")));
  }

  void fail(std::exception_ptr failure) {
    if (!failure_) failure_ = std::move(failure);
    for (Role& role : roles_) role.turn.notify_one();
  }

  std::mutex mutex_;
  std::vector<Role> roles_;
  std::size_t present_ = 0;
  std::exception_ptr failure_;
};

}  // namespace rondo::test
