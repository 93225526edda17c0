#!/usr/bin/env bash
# Packs what a GPU machine without a network lacks, into build/gpu/1, 2, ... of at most 55 MB each; see README.md.
#
#     bash benchmarks/gpu/pack.sh [--there PIP_LIST] [--python 3.12]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
python=${PYTHON:-python3}
export PYTHONPATH="$root:$root/benchmarks:$here" JAX_PLATFORMS=cpu
"$python" "$here/pack.py" --into build/gpu/packing "$@"
bash "$here/split.sh" build/gpu/packing build/gpu 54900000
du -h build/gpu/[0-9]*
