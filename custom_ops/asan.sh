#!/usr/bin/env bash
# Runs the 20,000 wrong calls of tests/ops/pack_fuzz_test.py and the other tests of the op under
# AddressSanitizer, which stops at the first read or write outside a tensor.
#
#     custom_ops/asan.sh [PYTHON]     (default: .venv/bin/python; needs g++)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

framework=libtensorflow_framework.so.2  # empty, by TensorFlow's name: see setup.py
g++ -shared -fPIC -x c++ /dev/null -Wl,-soname,$framework -o "$work/$framework"
g++ -std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fPIC -shared \
    -pthread custom_ops/pack_op.cc custom_ops/pack_copy.cc custom_ops/pack_layout.cc \
    custom_ops/parallel.cc -L"$work" -Wl,--no-as-needed -l:$framework -o "$work/libtfdet_pack.so"

# Python and TensorFlow leak on purpose and allocate what an attacker asks for.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export LD_PRELOAD="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so):$(g++ -print-file-name=libstdc++.so)"
export TFDET_PACK_LIBRARY="$work/libtfdet_pack.so"
"$python" -m pytest -q -s -p no:cacheprovider -m "slow or not slow" tests/ops/pack_fuzz_test.py
