#!/usr/bin/env bash
# Every claim, one after the other, then one page of all results.
#
#   bash script/reproduce/all.sh [--scale {cpu,night,gpu,paper}] [flags of the claims' commands]
#
# python script/reproduce/data_scaling.py --help lists these flags. Run it again at any time: runs
# that are done are skipped, the one in flight goes on.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup_env.sh"
help_if_asked "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

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
set_up_environment
claims="$(python -c 'from coverage_principle.experiments.claims import CLAIMS; print(*CLAIMS)')"
for claim in $claims; do
    started=$SECONDS
    python "script/reproduce/$claim.py" "$@"
    seconds=$((SECONDS - started))
    printf '%s took %d:%02d (minutes:seconds)\n\n' "$claim" $((seconds / 60)) $((seconds % 60))
done
python script/make_report.py "${output:-results/reproduce/$scale}"
