"""Lets llama.cpp quantise a GGUF of ours into its own mixtures, and compares the logits of both programs.

    fathom bench stand-in distill-qwen-1.5b qwen --layers 3 --tokenizer tokenizer.json
    fathom export qwen qwen-f16.gguf --format f16
    DIR/bin/pip install llama-cpp-python==0.3.36 numpy
    DIR/bin/python bench/peers/llama_cpp_formats.py target/release/fathom qwen-f16.gguf

llama.cpp rounds activations to eight bits before products with block formats (to bf16 for bf16), we do
not: the difference at Q8_0 is the size of that, and no format should be much further off.
"""

import ctypes
import json
import os
import subprocess
import sys

import llama_cpp
import numpy as np
from llama_cpp import Llama

IDS = [5, 17, 3, 99, 1000, 20000, 7, 8, 9, 10, 11, 12]
MIXTURES = {
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q3_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "Q2_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K,
    "Q5_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_1,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "IQ4_NL": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "IQ4_XS": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
}


def quantise(source, target, mixture):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = mixture
    failed = llama_cpp.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(params))
    if failed:
        sys.exit(f"llama.cpp cannot quantise {source}: {failed}")


def theirs(path):
    model = Llama(path, n_ctx=64, logits_all=True, verbose=False)
    model.eval(IDS)
    return np.array(model.scores[: len(IDS)])


def ours(fathom, path):
    ids = ",".join(map(str, IDS))
    run = subprocess.run([fathom, "logits", path, "--ids", ids, "--json"],
                         check=True, capture_output=True, text=True)
    return np.array(json.loads(run.stdout)["logits"])


def main(fathom, source):
    for name, mixture in MIXTURES.items():
        path = f"{source}.{name}.gguf"
        quantise(source, path, mixture)
        a, b = theirs(path), ours(fathom, path)
        os.remove(path)
        worst, mean = np.abs(a - b).max(), np.abs(a - b).mean()
        same = (a.argmax(1) == b.argmax(1)).sum()
        print(f"{name:7} worst {worst:.3f}, mean {mean:.4f}, deviation of logits {a.std():.2f}, "
              f"likeliest token the same at {same} of {len(IDS)}", flush=True)


main(*sys.argv[1:])
