#!/usr/bin/env bash
# Every claim, one after the other, then one page of all results.
#
#   bash script/reproduce/all.sh [--scale {cpu,gpu,paper}] [flags of the claims' commands]
#
# python script/reproduce/data_scaling.py --help lists these flags. Run it again at any time: runs
# that are done are skipped, the one in flight goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scale=cpu output=""
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case "${arguments[i]}" in
    -h | --help)
        sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p;}' script/reproduce/all.sh
        exit ;;
    --scale) scale="${arguments[i + 1]:-}" ;;
    --scale=*) scale="${arguments[i]#*=}" ;;
    --output_dir) output="${arguments[i + 1]:-}" ;;
    --output_dir=*) output="${arguments[i]#*=}" ;;
    esac
done
. script/setup_env.sh
set_up_environment
claims="$(python -c 'from coverage_principle.experiments.claims import CLAIMS; print(*CLAIMS)')"
for claim in $claims; do
    started=$SECONDS
    python "script/reproduce/$claim.py" "$@"
    seconds=$((SECONDS - started))
    printf '%s took %d:%02d (minutes:seconds)\n\n' "$claim" $((seconds / 60)) $((seconds % 60))
done
python script/make_report.py "${output:-results/reproduce/$scale}"
