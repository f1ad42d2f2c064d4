#include <rondo/precision.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>

namespace {

using rondo::accumulate_t;
using rondo::bfloat16;
using rondo::precision_traits;
using rondo::StorageType;

static_assert(StorageType<float> && StorageType<double> && StorageType<bfloat16>);
static_assert(StorageType<const float> && StorageType<const bfloat16>);
static_assert(!StorageType<int> && !StorageType<std::int64_t> && !StorageType<bool> && !StorageType<long double> &&
              !StorageType<float*> && !StorageType<float&> && !StorageType<void>);

static_assert(std::is_same_v<accumulate_t<float>, float> && std::is_same_v<accumulate_t<double>, double>);
static_assert(std::is_same_v<accumulate_t<bfloat16>, float> && std::is_same_v<accumulate_t<const bfloat16>, float>);

TEST_CASE("Two ranks can tell storage types from each other by code, a person by name") {
  CHECK(std::set{precision_traits<float>::code, precision_traits<double>::code, precision_traits<bfloat16>::code}.size() ==
        3);
  CHECK(std::string(precision_traits<float>::name) == "float");
  CHECK(std::string(precision_traits<double>::name) == "double");
  CHECK(std::string(precision_traits<bfloat16>::name) == "bfloat16");
}

TEST_CASE("A storage type is never wider than what it accumulates in") {
  CHECK(sizeof(accumulate_t<float>) >= sizeof(float));
  CHECK(sizeof(accumulate_t<double>) >= sizeof(double));
  CHECK(sizeof(accumulate_t<bfloat16>) > sizeof(bfloat16));
}

}  // namespace
