# SPDX-License-Identifier: Apache-2.0
# HDF5, from its static library where there is one: Debian's shared library reads files from the net, too, and brings
# libcurl with Kerberos and LDAP into every process, which took a third of `atoll predict`'s time. Linked statically that
# driver stays behind, unless this HDF5 cannot do without it.
include(CheckCSourceCompiles)
pkg_check_modules(hdf5 REQUIRED IMPORTED_TARGET GLOBAL hdf5-serial)
find_library(hdf5_static NAMES libhdf5.a libhdf5_serial.a HINTS ${hdf5_LIBRARY_DIRS} NO_CACHE)
find_library(szip_library sz NO_CACHE)
if(hdf5_static AND szip_library)
    set(hdf5_parts ${hdf5_static} ${szip_library} z m ${CMAKE_DL_LIBS})
    set(CMAKE_REQUIRED_INCLUDES ${hdf5_INCLUDE_DIRS})
    set(CMAKE_REQUIRED_LIBRARIES ${hdf5_parts} Threads::Threads)
    check_c_source_compiles("
        #include <hdf5.h>
        int main(void) { return H5Fopen(\"\", H5F_ACC_RDONLY, H5P_DEFAULT) >= 0; }" hdf5_static_links)
    unset(CMAKE_REQUIRED_INCLUDES)
    unset(CMAKE_REQUIRED_LIBRARIES)
endif()
if(hdf5_static_links)
    add_library(dep_hdf5 INTERFACE)
    target_include_directories(dep_hdf5 SYSTEM INTERFACE ${hdf5_INCLUDE_DIRS})
    target_link_libraries(dep_hdf5 INTERFACE ${hdf5_parts})
    message(STATUS "HDF5 ${hdf5_VERSION}: ${hdf5_static}")
else()
    add_library(dep_hdf5 ALIAS PkgConfig::hdf5)
    message(STATUS "HDF5 ${hdf5_VERSION}: the shared library, which atoll predict takes longer to load")
endif()
