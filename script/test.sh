#!/usr/bin/env bash
# The whole test suite: installs into .venv as quickstart.sh does, then runs pytest.
#
#   bash script/test.sh [pytest arguments]
#
# python -m pytest --help lists these.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
help_if_asked "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
set_up_environment test
exec python -m pytest "$@"
