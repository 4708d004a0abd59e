#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program looks for its libraries in the system's folders and where they were linked from, never in the current folder:
# an empty or relative entry of its RUNPATH would load what lies there. What few commands need they open themselves: no
# command waits for libcurl and the thirty libraries behind it.
set -euo pipefail
runpath=$(readelf -d "$ATOLL" | sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p')
checked=0
while read -r entry; do
    checked=$((checked + 1))
    [[ $entry == /* || $entry == \$ORIGIN* ]] || { echo "entry \"$entry\" of RUNPATH $runpath"; exit 1; }
done < <(tr ':' '\n' <<<"$runpath")
needed=$(readelf -d "$ATOLL" | grep NEEDED)
[[ $needed != *libcurl* ]] || { echo "libcurl is linked: datasets/http.c opens it"; exit 1; }
if [[ $needed != *libhdf5* ]] && ldd "$ATOLL" | grep libcurl; then # a shared HDF5 brings its own
    echo "libcurl is behind another library"
    exit 1
fi
echo "checked $checked entries of RUNPATH, $(wc -l <<<"$needed") libraries and what is behind them"
[ "$(wc -l <<<"$needed")" -gt 10 ]
