# SPDX-License-Identifier: Apache-2.0
# Every foreign library, as one interface target a folder that may use it (docs: DESIGN section 2).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
if(NOT ATOLL_SANITIZE STREQUAL "fuzzer") # the fuzz targets take no part of nn/ that computes
    find_package(OpenMP REQUIRED COMPONENTS C)
endif()

function(atoll_dependency target)
    add_library(${target} INTERFACE)
    foreach(module ${ARGN})
        string(MAKE_C_IDENTIFIER "pkg_${module}" id)
        pkg_check_modules(${id} REQUIRED IMPORTED_TARGET GLOBAL ${module})
        target_link_libraries(${target} INTERFACE PkgConfig::${id})
    endforeach()
endfunction()

atoll_dependency(dep_base sqlite3 jansson yaml-0.1 libsodium)
target_link_libraries(dep_base INTERFACE Threads::Threads m)
atoll_dependency(dep_datasets libpng libjpeg libexif libarchive zlib libseccomp)
include(${CMAKE_CURRENT_LIST_DIR}/curl.cmake)
atoll_dependency(dep_coordinator libuv libsodium)
atoll_dependency(dep_mpi ompi-c)
atoll_dependency(dep_nn libarchive)
include(${CMAKE_CURRENT_LIST_DIR}/hdf5.cmake)
target_link_libraries(dep_nn INTERFACE dep_hdf5 $<TARGET_NAME_IF_EXISTS:OpenMP::OpenMP_C>)
include(${CMAKE_CURRENT_LIST_DIR}/onednn.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/onnx.cmake)
