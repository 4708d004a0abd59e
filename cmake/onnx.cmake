# SPDX-License-Identifier: Apache-2.0
# ONNX's messages: protobuf-c's code for them, made from the onnx.proto of Debian's libonnx-dev.
find_program(PROTOC_C protoc-c REQUIRED)
find_path(onnx_proto onnx/onnx.proto REQUIRED NO_CACHE)
set(onnx_out ${CMAKE_BINARY_DIR}/onnx)
file(MAKE_DIRECTORY ${onnx_out})
add_custom_command(OUTPUT ${onnx_out}/onnx.pb-c.c ${onnx_out}/onnx.pb-c.h
    COMMAND ${PROTOC_C} --c_out=${onnx_out} -I${onnx_proto}/onnx ${onnx_proto}/onnx/onnx.proto
    DEPENDS ${onnx_proto}/onnx/onnx.proto VERBATIM)
add_library(at_onnx_messages STATIC ${onnx_out}/onnx.pb-c.c ${onnx_out}/onnx.pb-c.h)
target_compile_options(at_onnx_messages PRIVATE -w)
target_include_directories(at_onnx_messages SYSTEM PUBLIC ${onnx_out})
atoll_dependency(dep_onnx libprotobuf-c)
target_link_libraries(at_onnx_messages PUBLIC dep_onnx)
