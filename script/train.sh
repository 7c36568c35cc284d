#!/usr/bin/env bash
# Train a GPT-2 from scratch on one data set with the published settings (--preset published of
# main.py, in coverage_principle/presets.py).
#
#   bash script/train.sh NAME WEIGHT_DECAY LAYERS HEADS GPU SEED [more flags of main.py]
#
# NAME is a folder in data/. GPU is 0 (or another number), 0,1,2,3 (one process each) or cpu.
# Flags after SEED override those below; python main.py --help lists them. Output:
# CKPT_DIR/trained_checkpoints/NAME_wd-WEIGHT_DECAY_layer-LAYERS_head-HEADS_seed-SEED/
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
help_if_asked "$@"

usage="usage: bash script/train.sh NAME WEIGHT_DECAY LAYERS HEADS GPU SEED [more flags of main.py]"
if [ "$#" -lt 6 ]; then
    echo "train.sh: error: 6 arguments are needed, $# given; $usage" >&2
    exit 2
fi
name="${1%/}" weight_decay="$2" layers="$3" heads="$4" gpu="$5" seed="$6"
shift 6
name="${name#data/}"
if [[ ! "$gpu" =~ ^(cpu|[0-9]+(,[0-9]+)*)$ ]]; then
    echo "train.sh: error: GPU is '$gpu', but it must be cpu, a number such as 0, or a list such as 0,1,2,3" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -f .venv/bin/activate ]; then
    . .venv/bin/activate
fi

launch=(python)
device=cuda
if [ "$gpu" = cpu ]; then
    device=cpu
else
    export CUDA_VISIBLE_DEVICES="$gpu"
    gpus=(${gpu//,/ })
    if [ "${#gpus[@]}" -gt 1 ]; then
        launch=(python -m torch.distributed.run --standalone --nproc_per_node="${#gpus[@]}")
    fi
fi

exec "${launch[@]}" main.py \
    --preset published --data_dir "data/$name" \
    --output_dir "CKPT_DIR/trained_checkpoints/${name}_wd-${weight_decay}_layer-${layers}_head-${heads}_seed-${seed}" \
    --n_layer "$layers" --n_head "$heads" --weight_decay "$weight_decay" \
    --manual_seed "$seed" --device "$device" \
    "$@"
