#!/usr/bin/env bash
# Every claim, one after the other, then one page of all results.
#
#   bash script/reproduce/all.sh [--scale {cpu,gpu,paper}] [flags of the claims' commands]
#
# Run it again at any time: runs that are done are skipped, the one in flight goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. script/setup_env.sh
set_up_environment

scale=cpu output=""
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case "${arguments[i]}" in
    --scale) scale="${arguments[i + 1]:-}" ;;
    --scale=*) scale="${arguments[i]#*=}" ;;
    --output_dir) output="${arguments[i + 1]:-}" ;;
    --output_dir=*) output="${arguments[i]#*=}" ;;
    esac
done
for claim in accuracy_by_data accuracy_by_k_cutoff mechanisms path_ambiguity \
    data_scaling chain_of_thought parameter_scaling; do
    started=$SECONDS
    python "script/reproduce/$claim.py" "$@"
    seconds=$((SECONDS - started))
    printf '%s took %d:%02d (minutes:seconds)\n\n' "$claim" $((seconds / 60)) $((seconds % 60))
done
python script/make_report.py "${output:-results/reproduce/$scale}"
