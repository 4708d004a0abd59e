# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of commands as a user meets them: a scratch folder that goes at the end, and what a command printed.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*"
    exit 1
}
# expect STATUS COMMAND...: its stdout in out, its stderr in err
expect() {
    local status=$1
    shift
    "$@" >out 2>err
    local got=$?
    [ $got -eq "$status" ] || fail "exit $got, not $status: $* : $(cat err)"
}
# says FILE PATTERN
says() { grep -q -- "$2" "$1" || fail "no '$2' in: $(cat "$1")"; }
