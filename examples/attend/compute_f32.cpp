#include "compute_in.hpp"

ATTEND_COMPUTE_IN(float)
