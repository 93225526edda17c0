#!/usr/bin/env bash
# Puts together what pack.sh has packed and measures mpt beside PEFT; see README.md. Nothing is installed outside
# build/gpu, and nothing fetched. Options are those of run.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
python=${PYTHON:-python3}

seconds=440 tiny=
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
        --tiny) tiny=1 ;;
        --seconds) next=$((i + 1)) && seconds=${!next} ;;
    esac
done

# The machine's own packages come first, so that none that was brought along takes the place of one of them.
own=$("$python" -c 'import sys; print(*filter(None, sys.path), sep=":")')
export PYTHONPATH="$root:$root/benchmarks:$here:$own:$root/build/gpu/site"
export XLA_PYTHON_CLIENT_PREALLOCATE=false XLA_PYTHON_CLIENT_MEM_FRACTION=0.95
export TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 TF_CPP_MIN_LOG_LEVEL=2
if [ -z "$tiny" ]; then
    bash "$here/join.sh" build/gpu
    if [ ! -d build/gpu/site ]; then
        "$python" -m pip install --quiet --no-index --no-deps --no-compile --target build/gpu/site build/gpu/given/wheels/*.whl
    fi
    export MPT_CACHE=$root/build/gpu/cache JAX_COMPILATION_CACHE_DIR=$root/build/gpu/compiled
    mkdir -p "$MPT_CACHE/downloads"
    cp -n build/gpu/given/downloads/* "$MPT_CACHE/downloads/"
fi
# Whatever hangs ends a little later than the run would by itself.
exec timeout --kill-after=5 $((${seconds%.*} + 15)) "$python" "$here/run.py" "$@"
