# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts that measure peers: where their virtual environments are, and how they are made.
venvs=${ATOLL_PEERS:-build/peers}

make_venv() { # name, packages…
    local folder=$venvs/$1 all='import importlib.metadata as m, sys; [m.version(name) for name in sys.argv[1:]]'
    shift
    "$folder/bin/python" -c "$all" "$@" 2>/dev/null && return 0
    echo "making $folder with $*" >&2
    [ -x "$folder/bin/pip" ] || python3 -m venv --clear "$folder"
    "$folder/bin/pip" install -q --disable-pip-version-check "$@" >&2
}
