/// \file
/// A communicator that tells a saboteur what it is about to do.
#pragma once

#include <support/any_communicator.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

namespace rondo::test {

/// Called before each exchange ("forward", "backward") and each all_reduce ("all_reduce", hop -1).
using Saboteur = std::function<void(any_communicator& comm, const std::string& call, std::int64_t hop)>;

class sabotaged : public any_communicator {
 public:
  sabotaged(any_communicator comm, Saboteur saboteur)
      : any_communicator(std::move(comm)), saboteur_(std::move(saboteur)) {}

  Started exchange(const execution_space& after, std::span<const Segment<memory_space>> segments, Where where = {}) {
    saboteur_(*this, where.what, where.hop);
    return any_communicator::exchange(after, segments, where);
  }
  template <class T>
  void all_reduce(std::span<T> values, Reduction reduction) {
    saboteur_(*this, "all_reduce", -1);
    any_communicator::all_reduce(values, reduction);
  }
  sabotaged split(int color, int key) { return {any_communicator::split(color, key), saboteur_}; }
  sabotaged shrink() { return {any_communicator::shrink(), saboteur_}; }

 private:
  Saboteur saboteur_;
};

static_assert(Communicator<sabotaged>);

}  // namespace rondo::test
