# SPDX-License-Identifier: Apache-2.0
# oneDNN 2.x or 3.x: the system's, or that under ATOLL_ONEDNN_PREFIX. nn/dnn_v2.c or nn/dnn_v3.c is compiled after the
# version that its header tells. Debian's own CMake package of oneDNN asks for OpenCL's headers, which atoll does not need.
if(ATOLL_ONEDNN_PREFIX)
    set(where PATHS ${ATOLL_ONEDNN_PREFIX}/include ${ATOLL_ONEDNN_PREFIX}/lib ${ATOLL_ONEDNN_PREFIX}/lib64
        NO_DEFAULT_PATH NO_CACHE REQUIRED)
else()
    set(where NO_CACHE REQUIRED)
endif()
find_path(onednn_include oneapi/dnnl/dnnl_version.h ${where})
find_library(onednn_library dnnl ${where})
file(STRINGS ${onednn_include}/oneapi/dnnl/dnnl_version.h onednn_major REGEX "define +DNNL_VERSION_MAJOR +[0-9]+")
string(REGEX REPLACE ".*DNNL_VERSION_MAJOR +([0-9]+).*" "\\1" onednn_major "${onednn_major}")
if(NOT onednn_major MATCHES "^[23]$")
    message(FATAL_ERROR "${onednn_library} is oneDNN ${onednn_major}; atoll speaks 2.x and 3.x")
endif()
message(STATUS "oneDNN ${onednn_major}.x: ${onednn_library}")
if(ATOLL_ONEDNN_PREFIX) # it may lie within this tree, of which CMake takes no link path over
    get_filename_component(onednn_folder ${onednn_library} DIRECTORY)
    set(CMAKE_INSTALL_RPATH ${onednn_folder})
endif()
target_include_directories(dep_nn SYSTEM BEFORE INTERFACE ${onednn_include})
target_link_libraries(dep_nn INTERFACE ${onednn_library})

# Leaves out the other version's file.
function(atoll_onednn_source target)
    get_target_property(sources ${target} SOURCES)
    list(FILTER sources INCLUDE REGEX "/dnn_v[0-9]+\\.c$")
    list(FILTER sources EXCLUDE REGEX "/dnn_v${onednn_major}\\.c$")
    set_source_files_properties(${sources} PROPERTIES HEADER_FILE_ONLY ON)
endfunction()
