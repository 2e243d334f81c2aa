#!/usr/bin/env bash
# Check and measure on a machine with a GPU that needs no network:
#
#     bash deploy/gpu_session.sh [FOLDER]                   # at most 23 minutes; results in FOLDER (gpu-results/)
#
# Where a machine is lent for calls of at most ten minutes, these fit into one each:
#
#     STEPS="setup check" bash deploy/gpu_session.sh FOLDER
#     STEPS=bench bash deploy/gpu_session.sh FOLDER
#     STEPS=sweep bash deploy/gpu_session.sh FOLDER
#
# STEPS: any of setup (at most 1.5 minutes), check (CHECK_MINUTES, 6, and 1.25 more), bench (BENCH_MINUTES, 8, and 1.25
# more) and sweep (at most 5: four trials in a pack, and the exported student checked on the CPU). A step that takes longer
# is ended.
# FOLDER gets a log of each step and the results as JSON, at most eight files. A step that fails does not keep the others
# from running; the exit code is then 1. A sweep is left out where its libraries are missing, which is a failure if STEPS
# names it.
#
# Needed: torch 2.11 or later with CUDA and Triton, Python 3.11 or later, pydantic, PyYAML, safetensors, filelock, numba,
# numpy, scikit-learn (for its digits), pytest; for the sweep Optuna, MLflow, pandas, plotly, Jinja2, typer, rich. A folder
# of wheels of what is missing can be given as WHEELS, another Python than python3 as PYTHON.
set -u
cd "$(dirname "$0")/.."
folder=${1:-gpu-results}
python=${PYTHON:-python3}
steps=${STEPS:-setup check bench sweep}
check_minutes=${CHECK_MINUTES:-6} bench_minutes=${BENCH_MINUTES:-8}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=""

run() {  # NAME SECONDS COMMAND...
    local name=$1 seconds=$2
    shift 2
    echo "== $name: $*"
    local began=$SECONDS code=0
    timeout -k 10 "$seconds" "$@" >"$folder/$name.log" 2>&1 || code=$?
    tail -n 40 "$folder/$name.log"
    case $code in
    0) ;;
    124 | 137) failed="$failed $name" && echo "== $name: ended after $seconds s" ;;
    *) failed="$failed $name" ;;
    esac
    echo "== $name: $((SECONDS - began)) s"
}

if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:$scratch/site"
fi

for step in $steps; do
    case $step in
    setup) run setup 90 "$python" -c '
import json, platform, sys, torch
from supersnn.gpus import gpu_facts, gpu_fault, gpu_names
from supersnn.kernels.choice import fused_fault
names = gpu_names() or sys.exit(f"torch {torch.__version__} sees no GPU here")
faults = [fault for fault in map(gpu_fault, range(len(names))) if fault] + [fault for fault in [fused_fault()] if fault]
about = {"python": platform.python_version(), "torch": torch.__version__, "gpus": names, **gpu_facts("cuda")}
print(json.dumps({**about, "faults": faults}, indent=1))
sys.exit(1 if faults else 0)
' ;;
    check)
        run check $((60 * check_minutes + 75)) \
            "$python" -m tests.gpu --json "$folder/gpu-check.json" --minutes "$check_minutes"
        ;;
    bench)
        run bench $((60 * bench_minutes + 75)) \
            "$python" -m benchmarks.gpu --json "$folder/gpu-bench.json" --minutes "$bench_minutes"
        ;;
    sweep)
        missing=$("$python" -c '
from importlib.util import find_spec
print(*(name for name in ("optuna", "mlflow", "pandas", "plotly", "jinja2", "typer", "rich") if find_spec(name) is None))
')
        if [ -z "$missing" ]; then
            run sweep 240 "$python" -m supersnn_cli sweep configs/digits.yaml --local --store "$scratch/store" \
                --set name=on-a-gpu --set search.trials=4 --set verify.seeds=2 --set resources.pack=4
            run exported 60 env CUDA_VISIBLE_DEVICES= \
                "$python" -m supersnn_cli check "$scratch/store/sweeps/on-a-gpu/best/overall"
        else
            echo "== sweep: left out, these are missing: $missing"
            [ -z "${STEPS:-}" ] || failed="$failed sweep"
        fi
        ;;
    *) echo "unknown step $step" && failed="$failed $step" ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
