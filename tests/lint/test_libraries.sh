#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program looks for its libraries in the system's folders and where they were linked from, never in the current folder:
# an empty or relative entry of its RUNPATH would load what lies there.
set -euo pipefail
runpath=$(readelf -d "$ATOLL" | sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p')
checked=0
while read -r entry; do
    checked=$((checked + 1))
    [[ $entry == /* || $entry == \$ORIGIN* ]] || { echo "entry \"$entry\" of RUNPATH $runpath"; exit 1; }
done < <(tr ':' '\n' <<<"$runpath")
needed=$(readelf -d "$ATOLL" | grep -c NEEDED)
echo "checked $checked entries of RUNPATH, $needed libraries"
[ "$needed" -gt 10 ]
