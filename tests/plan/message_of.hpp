/// \file
/// What an exception says.
#pragma once

#include <string>

namespace rondo::test {

/// The text of the E that f throws; "nothing thrown" when it throws none.
template <class E, class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const E& exception) {
    return exception.what();
  }
  return "nothing thrown";
}

}  // namespace rondo::test
