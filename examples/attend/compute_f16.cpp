#include "compute_in.hpp"

ATTEND_COMPUTE_IN(rondo::float16)
