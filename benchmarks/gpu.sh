#!/usr/bin/env bash
# The GPU rows, for a machine that is at hand for ten minutes: versions, the card, a smoke run, then every row.
#
#   benchmarks/gpu.sh [FILE]            # results, by default in benchmarks/results
#   benchmarks/gpu.sh --smoke [FILE]    # tiny sizes, on whatever device there is: does the script run?
#
# Wanted: the package with jax for the card, and a PyTorch for it in the same interpreter; without one its rows say so.
# A row has a limit of its own, one that fails does not end the others, and the file is written anew after each.
set -euo pipefail
cd "$(dirname "$0")/.."
how=(--minutes 8)
if [ "${1:-}" = --smoke ]; then how=(--smoke --turns 1 --slack 4); shift; fi
file=(${1:+--json "$1"})
compare() { python benchmarks/compare.py --set gpu --here torch "$@"; }

python -c 'from icrl.storage.run_folder import versions; print(versions())'
python -c 'import torch; print("torch", torch.__version__)' || true
nvidia-smi || true
if [ "${how[0]}" != --smoke ]; then compare --rows 'train-width-64' --smoke --turns 1 --minutes 1; fi
compare "${how[@]}" "${file[@]}"
