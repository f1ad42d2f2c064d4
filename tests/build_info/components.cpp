#include <rondo/build_info.hpp>

namespace rondo::test {

BuildInfo components_info() { return build_info(); }

}  // namespace rondo::test
