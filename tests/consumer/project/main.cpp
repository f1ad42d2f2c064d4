// Uses Rondo as a project of its own would.
#include <Kokkos_Core.hpp>
#include <cstdio>

#if __has_include(<rondo/rondo.hpp>)
#include <rondo/rondo.hpp>
#endif
#include <rondo/version.hpp>

#ifdef CONSUMER_LAYERS
#include <Eigen/Core>
#endif

int main(int argc, char** argv) {
  Kokkos::ScopeGuard kokkos(argc, argv);
  double sum = 0;
  Kokkos::parallel_reduce(
      10, KOKKOS_LAMBDA(int i, double& part) { part += i; }, sum);
#ifdef CONSUMER_LAYERS
  const char* layers = Eigen::Vector2d(3, 4).norm() == 5 ? " with layers" : "";
#else
  const char* layers = "";
#endif
  std::printf("rondo %s%s\n", rondo::version_string, layers);
  return sum == 45 ? 0 : 1;
}
