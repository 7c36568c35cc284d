#!/usr/bin/env bash
# The whole test suite: installs into .venv as quickstart.sh does, then runs pytest.
#
#   bash script/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. script/setup_env.sh
case "${1:-}" in -h | --help) show_help ;; esac
set_up_environment test
exec python -m pytest "$@"
