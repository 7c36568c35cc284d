# Sourced by the other scripts: an active environment with this repository installed in it.
#
# Uses the active virtual environment (or conda environment) if there is one, else makes and
# activates .venv. Installs what requirements.txt names, and skips that when nothing changed since
# the last time. set_up_environment [extra] also installs that extra of pyproject.toml.
# use_environment installs nothing and fails where the repository is not installed.
# help_if_asked "$@" looks for -h or --help among the calling script's arguments; if one is there, it
# prints the comment that the script begins with, and ends it. It is called before any cd.

help_if_asked() {
    local argument
    for argument in "$@"; do
        case "$argument" in
        -h | --help)
            sed -n '/^[^#]/q; /^#!/d; /^#SBATCH/d; s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        esac
    done
}

use_environment() {
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -f .venv/bin/activate ]; then
        . .venv/bin/activate
    fi
    if ! python -c 'import coverage_principle, simpletransformers' 2>/dev/null; then
        echo "error: this repository is not installed in the active environment, nor is there a" \
            ".venv; omit --no-install" >&2
        return 1
    fi
}

set_up_environment() {
    local extra="${1:-}" python="" candidate stamp wanted
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        if [ ! -x .venv/bin/python ]; then
            for candidate in python3.13 python3.12 python3.11 python3 python; do
                if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                    python="$candidate"
                    break
                fi
            done
            if [ -z "$python" ]; then
                echo "error: Python 3.11 or newer is needed, and none was found on the PATH" >&2
                return 1
            fi
            echo "making .venv with $("$python" --version)"
            "$python" -m venv .venv || return 1
        fi
        . .venv/bin/activate
    fi
    stamp="$(python -c 'import sys; print(sys.prefix)')/.coverage-principle-installed"
    wanted="$PWD $extra $(cat requirements.txt pyproject.toml simpletransformers/pyproject.toml | cksum)"
    if [ -f "$stamp" ] && grep -qxF "$wanted" "$stamp"; then
        return 0
    fi
    echo "installing requirements.txt (a few minutes the first time)"
    python -m pip install --quiet --disable-pip-version-check -r requirements.txt || return 1
    if [ -n "$extra" ]; then
        python -m pip install --quiet --disable-pip-version-check -e ".[$extra]" || return 1
    fi
    echo "$wanted" >>"$stamp"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then help_if_asked --help; fi # run, not sourced
