#!/bin/sh
# usage: venv.sh FOLDER    Makes an empty virtual environment there with the first Python that can (PYTHON overrides).
set -eu

lacks_venv=
for python in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
    # Run, not only found: a version manager leaves names behind that start nothing.
    version=$("$python" -c 'import sys; sys.version_info >= (3, 11) and print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    [ -n "$version" ] || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        exec "$python" -m venv --clear "$1"
    fi
    lacks_venv=${lacks_venv:-$version}
done
if [ -n "$lacks_venv" ]; then
    echo "Python $lacks_venv is here without its venv module: sudo apt install python$lacks_venv-venv" >&2
else
    echo "Python 3.11 or newer is missing: sudo apt install python3.11 python3.11-venv" >&2
fi
exit 1
