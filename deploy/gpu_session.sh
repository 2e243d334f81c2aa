#!/usr/bin/env bash
# Check and measure on a machine with a GPU that needs no network:
#
#     bash deploy/gpu_session.sh [FOLDER]                   # some 15 minutes; results in FOLDER (gpu-results/)
#     PYTHON=python3 STEPS="check" bash deploy/gpu_session.sh FOLDER
#
# STEPS: any of setup, check (at most 6 minutes), bench (at most 8) and sweep (2, four trials in a pack, where Optuna and
# MLflow are installed). Needed: torch 2.11 or later with CUDA and Triton, Python 3.11 or later, pydantic, PyYAML,
# safetensors, filelock, numba, numpy, scikit-learn (for its digits), pytest; a folder of wheels of what is missing can be
# given as WHEELS. A step that fails does not keep the others from running; the exit code is then 1.
set -u
cd "$(dirname "$0")/.."
folder=${1:-gpu-results}
python=${PYTHON:-python3}
steps=${STEPS:-setup check bench sweep}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# cuBLAS reads its workspace when it is first used; deterministic checks after others in one process need this one.
export CUBLAS_WORKSPACE_CONFIG=${CUBLAS_WORKSPACE_CONFIG:-:4096:8}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=""

run() {
    local name=$1
    shift
    echo "== $name: $*"
    local began=$SECONDS
    "$@" >"$folder/$name.log" 2>&1 || failed="$failed $name"
    tail -n 40 "$folder/$name.log"
    echo "== $name: $((SECONDS - began)) s"
}

if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:$site"
fi

for step in $steps; do
    case $step in
    setup) run setup "$python" -c '
import json, platform, sys, torch
from supersnn.gpus import gpu_facts, gpu_fault, gpu_names
from supersnn.kernels.choice import fused_fault
names = gpu_names() or sys.exit(f"torch {torch.__version__} sees no GPU here")
faults = [fault for fault in map(gpu_fault, range(len(names))) if fault] + [fault for fault in [fused_fault()] if fault]
about = {"python": platform.python_version(), "torch": torch.__version__, "gpus": names, **gpu_facts("cuda")}
print(json.dumps({**about, "faults": faults}, indent=1))
sys.exit(1 if faults else 0)
' ;;
    check) run check "$python" -m tests.gpu --json "$folder/gpu-check.json" ;;
    bench) run bench "$python" -m benchmarks.gpu --json "$folder/gpu-bench.json" ;;
    sweep)
        if "$python" -c 'import optuna, mlflow, typer' 2>/dev/null; then
            run sweep "$python" -m supersnn_cli sweep configs/digits.yaml --local --store "$folder/store" \
                --set name=on-a-gpu --set search.trials=4 --set verify.seeds=2 --set resources.pack=4
            run exported "$python" -m supersnn_cli check "$folder/store/sweeps/on-a-gpu/best/overall"
        else
            echo "== sweep: left out, optuna, mlflow and typer are needed"
        fi
        ;;
    *) echo "unknown step $step" && failed="$failed $step" ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
