#include <rondo/precision.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>

namespace {

using rondo::accumulate_t;
using rondo::bfloat16;
using rondo::float16;
using rondo::precision_traits;
using rondo::StorageType;

static_assert(StorageType<float> && StorageType<double> && StorageType<bfloat16> && StorageType<float16>);
static_assert(StorageType<const float> && StorageType<const bfloat16> && StorageType<const float16>);
static_assert(!StorageType<int> && !StorageType<std::int64_t> && !StorageType<bool> && !StorageType<long double> &&
              !StorageType<float*> && !StorageType<float&> && !StorageType<void>);

static_assert(std::is_same_v<accumulate_t<float>, float> && std::is_same_v<accumulate_t<double>, double>);
static_assert(std::is_same_v<accumulate_t<bfloat16>, float> && std::is_same_v<accumulate_t<const bfloat16>, float>);
static_assert(std::is_same_v<accumulate_t<float16>, float> && std::is_same_v<accumulate_t<const float16>, float>);

TEST_CASE("Two ranks can tell storage types from each other by code, a person by name") {
  CHECK(std::set{precision_traits<float>::code, precision_traits<double>::code, precision_traits<bfloat16>::code,
                 precision_traits<float16>::code}
            .size() == 4);
  CHECK(std::string(precision_traits<float>::name) == "float");
  CHECK(std::string(precision_traits<double>::name) == "double");
  CHECK(std::string(precision_traits<bfloat16>::name) == "bfloat16");
  CHECK(std::string(precision_traits<float16>::name) == "float16");
}

TEST_CASE("A storage type is never wider than what it accumulates in") {
  CHECK(sizeof(accumulate_t<float>) >= sizeof(float));
  CHECK(sizeof(accumulate_t<double>) >= sizeof(double));
  CHECK(sizeof(accumulate_t<bfloat16>) > sizeof(bfloat16));
  CHECK(sizeof(accumulate_t<float16>) > sizeof(float16));
}

}  // namespace
