# Installs the headers and the CMake package: one file of targets for the core and one for each component, so that
# asking for the core asks for nothing but Kokkos.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_directory "${CMAKE_INSTALL_DATADIR}/cmake/Rondo")

install(DIRECTORY include/rondo DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(TARGETS rondo EXPORT RondoTargets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT RondoTargets NAMESPACE Rondo:: DESTINATION "${package_directory}")
# (Not RondoTargets-<component>: the core's file includes every file of that pattern.)
foreach(component IN LISTS RONDO_COMPONENTS)
  install(TARGETS rondo_${component} EXPORT RondoComponent_${component})
  install(EXPORT RondoComponent_${component} NAMESPACE Rondo:: DESTINATION "${package_directory}")
endforeach()

configure_package_config_file(cmake/RondoConfig.cmake.in "${PROJECT_BINARY_DIR}/package/RondoConfig.cmake"
                              INSTALL_DESTINATION "${package_directory}")
# While the major version is 0, a minor one may change anything.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/RondoConfigVersion.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/package/RondoConfig.cmake" "${PROJECT_BINARY_DIR}/package/RondoConfigVersion.cmake"
              cmake/RondoCuda.cmake cmake/RondoHostArch.cmake
        DESTINATION "${package_directory}")
if(RONDO_NCCL)
  install(FILES cmake/FindNCCL.cmake DESTINATION "${package_directory}")
endif()
