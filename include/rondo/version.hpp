/// @file
/// The version of this copy of Rondo. The build reads the three numbers from here: change them nowhere else.
#pragma once

#define RONDO_VERSION_MAJOR 0
#define RONDO_VERSION_MINOR 1
#define RONDO_VERSION_PATCH 0

/// The version as one number for comparisons in the preprocessor: major * 10000 + minor * 100 + patch.
#define RONDO_VERSION (RONDO_VERSION_MAJOR * 10000 + RONDO_VERSION_MINOR * 100 + RONDO_VERSION_PATCH)

#define RONDO_IMPL_TEXT_OF(number) #number
#define RONDO_IMPL_TEXT(number) RONDO_IMPL_TEXT_OF(number)

namespace rondo {

/// The version as text, such as "0.1.0".
inline constexpr char version_string[] = RONDO_IMPL_TEXT(RONDO_VERSION_MAJOR) "." RONDO_IMPL_TEXT(
    RONDO_VERSION_MINOR) "." RONDO_IMPL_TEXT(RONDO_VERSION_PATCH);

}  // namespace rondo

#undef RONDO_IMPL_TEXT
#undef RONDO_IMPL_TEXT_OF
