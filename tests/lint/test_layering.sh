#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Includes go only the way that the design allows: folders against folders, foreign headers only where they belong.
set -euo pipefail
cd "$ATOLL_SOURCE"

# folder: the public headers that it may include
declare -A may=(
    [base]="base"
    [datasets]="base datasets"
    [cache]="base datasets cache"
    [nn]="base nn"
    [trainer]="base datasets cache nn trainer"
    [coordinator]="base coordinator"
    [bench]="base datasets cache nn trainer bench"
    [cli]="base datasets cache nn trainer coordinator bench"
)
# foreign header: the folders that may include it
foreign=(
    "sqlite3.h:base" "jansson.h:base" "yaml.h:base" "sodium.h:base coordinator"
    "png.h:datasets bench" "jpeglib.h:datasets bench" "libexif/exif-data.h:datasets" "archive.h:datasets nn" "archive_entry.h:datasets nn" "curl/curl.h:datasets"
    "zlib.h:datasets" "seccomp.h:datasets" "oneapi/dnnl/dnnl.h:nn" "dnnl.h:nn" "hdf5.h:nn" "onnx.pb-c.h:nn" "mpi.h:trainer bench" "uv.h:coordinator"
)
checked=0
bad=0
complain() { echo "$1"; bad=$((bad + 1)); }

for folder in "${!may[@]}"; do
    for file in "$folder"/*.[ch]; do
        [ -e "$file" ] || continue
        while read -r line; do
            checked=$((checked + 1))
            header=${line#*[<\"]}
            header=${header%%[>\"]*}
            case $header in
            atoll/*)
                name=$(basename "$header" .h)
                [[ " ${may[$folder]} " == *" $name "* ]] || complain "$file may not include $header"
                ;;
            ../*) complain "$file reaches into another folder: $header" ;;
            esac
            for rule in "${foreign[@]}"; do
                [ "$header" = "${rule%%:*}" ] || continue
                [[ " ${rule#*:} " == *" $folder "* ]] || complain "$file may not include $header (only ${rule#*:})"
            done
        done < <(grep -hE '^ *# *include' "$file")
    done
done
for header in include/atoll/*.h; do
    name=$(basename "$header" .h)
    for used in $(sed -n 's/^#include <atoll\/\(.*\)\.h>/\1/p' "$header"); do
        checked=$((checked + 1))
        [[ " ${may[$name]} " == *" $used "* ]] || complain "$header may not include atoll/$used.h"
    done
done
for file in $(grep -lE '^ *# *include *[<"]((oneapi/dnnl/)?dnnl|dnn_version)' nn/*.[ch]); do
    [[ $file == nn/dnn.c || $file == nn/dnn_v[23].c || $file == nn/dnn_version.h ]] || complain "$file may not include oneDNN"
done
for file in $(grep -lE '^ *# *include *<seccomp.h>' datasets/*.[ch]); do
    [ "$file" = datasets/sandbox_jail.c ] || complain "$file may not include seccomp.h"
done
echo "checked $checked includes, $bad against the layering"
[ "$checked" -gt 100 ] && [ "$bad" = 0 ]
