#!/bin/sh
# Sees to it that the LiteLLM proxy of the tests is installed, in .venv/litellm: it and ft want different versions of
# the same packages. What it would only use elsewhere (polars, granian and others) is left out of litellm.txt.
set -eu

cd "$(dirname "$0")/../.."
venv=.venv/litellm
lock=tests/setup/litellm.txt
if [ -e $venv/done.stamp ] && [ ! $lock -nt $venv/done.stamp ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
echo "installing $(grep '^litellm==' $lock) into $venv"
tests/setup/venv.sh $venv
# The list is whole, so nothing has to be resolved, and nothing that it lacks comes in.
$venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $lock
touch $venv/done.stamp
