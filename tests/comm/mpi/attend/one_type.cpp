// attend over processes in float alone: the other types, and threads, are tests/examples' and would only take the
// compiler's time.
#include "../../../../examples/attend/compute.hpp"
#include "../../../../examples/attend/ranks.hpp"

#define ATTEND_LEFT_OUT(T, Comm)                                                               \
  template <>                                                                                  \
  void compute_in<T>(Comm&, const Request&, const safetensors::Input&, safetensors::Output*) { \
    safetensors::refuse("this program computes in f32 over processes only");                   \
  }

namespace attend {

ATTEND_LEFT_OUT(double, Threads)
ATTEND_LEFT_OUT(float, Threads)
ATTEND_LEFT_OUT(rondo::bfloat16, Threads)
ATTEND_LEFT_OUT(rondo::float16, Threads)
ATTEND_LEFT_OUT(double, Processes)
ATTEND_LEFT_OUT(rondo::bfloat16, Processes)
ATTEND_LEFT_OUT(rondo::float16, Processes)

template <>
void compute_in<float>(Processes& comm, const Request& request, const safetensors::Input& in,
                       safetensors::Output* out) {
  compute<float>(comm, request, in, out);
}

}  // namespace attend
