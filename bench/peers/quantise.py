"""Lets llama.cpp turn a GGUF into one of its own mixtures, such as Q4_K_M.

    DIR/bin/python bench/peers/quantise.py model-bf16.gguf model-q4_k_m.gguf Q4_K_M [--threads 2]

Both programs then open the same file. A quantised source is taken too: of random weights, none are lost.
"""

import argparse
import ctypes
import sys

import llama_cpp


def lite():
    """llama.cpp knows models without a rank of queries by their 27 layers; these need not have them."""
    overrides = (llama_cpp.llama_model_kv_override * 3)()
    overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
    overrides[0].key = b"tokenizer.ggml.model"
    overrides[0].value.val_str = b"no_vocab"
    overrides[1].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
    overrides[1].key = b"deepseek2.attention.q_lora_rank"
    return overrides


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("mixture", help="a name of llama.cpp, such as Q4_K_M or Q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lite", action="store_true", help="V2-Lite's kind with other than 27 layers")
    args = parser.parse_args()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{args.mixture.upper()}")
    params.nthread = args.threads
    params.allow_requantize = True
    overrides = lite() if args.lite else None
    if overrides:
        params.kv_overrides = ctypes.cast(overrides, type(params.kv_overrides))
    source, target = args.source.encode(), args.target.encode()
    if llama_cpp.llama_model_quantize(source, target, ctypes.byref(params)):
        sys.exit(f"llama.cpp cannot quantise {args.source}")


if __name__ == "__main__":
    main()
