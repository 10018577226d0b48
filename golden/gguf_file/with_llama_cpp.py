"""Opens our GGUF exports of the golden checkpoints with llama.cpp and compares logits.

    FATHOM_GGUF_OUT=/tmp/exports cargo test -p fathom-model --test it golden_checkpoints_exported
    DIR/bin/pip install llama-cpp-python==0.3.36
    DIR/bin/python golden/gguf_file/with_llama_cpp.py /tmp/exports/own golden

For each export: the largest difference to `golden.json`, and whether the greedy continuations agree.
"""

import glob
import json
import os
import sys

import llama_cpp
import numpy as np
from llama_cpp import Llama


def logits(model, ids):
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def check(path, cases):
    model = Llama(path, n_ctx=128, logits_all=True, verbose=False, n_threads=1,
                  type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    worst, greedy = 0.0, True
    for case in cases:
        ids = list(case["ids"])
        worst = max(worst, np.abs(logits(model, ids) - np.array(case["logits"])).max())
        for want in case["greedy"]:
            got = int(np.argmax(logits(model, ids)[-1]))
            greedy &= got == want
            ids.append(want)
    return worst, greedy


def main(exports, checkpoints):
    for golden in sorted(glob.glob(os.path.join(checkpoints, "*", "golden.json"))):
        name = os.path.basename(os.path.dirname(golden))
        found = sorted(glob.glob(os.path.join(exports, f"{name}-f32*.gguf")))
        if not found:
            print(f"{name}: no export")
            continue
        cases = json.load(open(golden))["cases"]
        try:
            worst, greedy = check(found[0], cases)
            print(f"{name}: worst error {worst:.1e}, greedy {'equal' if greedy else 'DIFFERS'}")
        except ValueError as error:  # the file cannot be loaded
            print(f"{name}: {error}")


main(*sys.argv[1:])
