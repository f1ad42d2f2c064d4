#include <rondo/build_info.hpp>

namespace rondo::test {

BuildInfo baseline_info() { return build_info(); }

}  // namespace rondo::test
