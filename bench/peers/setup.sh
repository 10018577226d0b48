#!/usr/bin/env bash
# Makes a Python environment with the programs Fathom is measured and checked against.
#
#   bench/peers/setup.sh DIR        then    DIR/bin/python bench/peers/train_step.py
#
# PyPI's torch for Linux needs its CUDA libraries even to start, about 5 GB of disk. Where the
# CPU wheels of PyTorch can be reached, this is smaller and computes the same:
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu bench/peers/setup.sh DIR
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
dir=$1

# Pinned: the figures in docs/ and the files in golden/ were made with exactly these.
torch=torch==2.15.0
others=(transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6)

python3 -m venv "$dir"
pip=("$dir/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" "${others[@]}"
"${pip[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
"$dir/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
