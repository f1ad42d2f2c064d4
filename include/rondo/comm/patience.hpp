/// \file
/// How the host waits for what it can only ask.
#pragma once

#include <chrono>
#include <thread>

namespace rondo::detail {

/// At first the host asks again at once, then it lets others have the core, at last it sleeps in between.
class Patience {
 public:
  void pause() {
    if (++asked_ < 200) return;
    if (asked_ < 1000) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

 private:
  int asked_ = 0;
};

}  // namespace rondo::detail
