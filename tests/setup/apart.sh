#!/bin/sh
# Sees to it that a server of the tests is installed in an environment of its own: `apart.sh litellm` from litellm.txt
# into .venv/litellm, `apart.sh vllm` from vllm.txt into .venv/vllm. They and ft want different versions of the same
# packages. Each list is whole, so nothing has to be resolved, and nothing that it lacks comes in; it says why it lacks
# what it lacks.
set -eu

cd "$(dirname "$0")/../.."
venv=.venv/$1
lock=tests/setup/$1.txt
if [ -e $venv/done.stamp ] && [ ! $lock -nt $venv/done.stamp ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
echo "installing $(grep -E "^$1(-cpu)?==" $lock) into $venv"
tests/setup/venv.sh $venv
$venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $lock
touch $venv/done.stamp
