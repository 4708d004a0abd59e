# SPDX-License-Identifier: Apache-2.0
# libcurl is not linked but opened by the first transfer (datasets/http.h), where it lies now or, on another machine, by
# its name alone.
pkg_check_modules(curl REQUIRED libcurl)
find_library(curl_library curl REQUIRED HINTS ${curl_LIBRARY_DIRS} NO_CACHE)
execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${curl_library} OUTPUT_VARIABLE curl_head COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "SONAME +([^ \n]+)" curl_soname "${curl_head}")
if(NOT curl_soname)
    message(FATAL_ERROR "${curl_library} is no shared library; atoll opens libcurl while it runs")
endif()
set(curl_soname ${CMAKE_MATCH_1})
get_filename_component(curl_folder ${curl_library} DIRECTORY)
target_include_directories(dep_datasets SYSTEM INTERFACE ${curl_INCLUDE_DIRS})
target_link_libraries(dep_datasets INTERFACE ${CMAKE_DL_LIBS})
set_source_files_properties(${CMAKE_SOURCE_DIR}/datasets/http.c PROPERTIES COMPILE_DEFINITIONS
    "ATOLL_CURL_FOLDER=\"${curl_folder}\";ATOLL_CURL_NAME=\"${curl_soname}\"")
