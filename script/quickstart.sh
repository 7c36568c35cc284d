#!/usr/bin/env bash
# From nothing to results on one laptop: installs into .venv, then runs all five stages on the CPU.
#
#   bash script/quickstart.sh [--no-install] [--preset {small,tiny}] [--seed N] [--output_dir DIR]
#
#   --no-install      use the environment as it is
#   --preset          small: shows the effects, two to four minutes on 2 cores (the default);
#                     tiny: half a minute, shows only that everything runs
#   --seed N          of data, initial weights and order (42)
#   --output_dir DIR  where everything goes (results/quickstart)
#
# Run it again at any time: what is done is skipped, what was interrupted goes on.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
help_if_asked "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install=yes
arguments=()
for argument in "$@"; do
    case "$argument" in
    --no-install) install=no ;;
    *) arguments+=("$argument") ;;
    esac
done
if [ "$install" = yes ]; then set_up_environment; else use_environment; fi
exec python script/quickstart.py ${arguments[@]+"${arguments[@]}"}
