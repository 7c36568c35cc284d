#!/usr/bin/env bash
# From nothing to results on one laptop: installs into .venv, then runs all five stages on the CPU.
#
#   bash script/quickstart.sh [--no-install] [--preset {small,tiny}] [--seed N] [--output_dir DIR]
#
# Run it again at any time: what is done is skipped, what was interrupted goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install=yes
arguments=()
for argument in "$@"; do
    if [ "$argument" = --no-install ]; then install=no; else arguments+=("$argument"); fi
done
. script/setup_env.sh
if [ "$install" = yes ]; then set_up_environment; else use_environment; fi
exec python script/quickstart.py ${arguments[@]+"${arguments[@]}"}
