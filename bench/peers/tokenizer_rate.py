"""Rate of `tokenizers` and of tiktoken on one thread, beside `fathom bench tokenizer`.

    DIR/bin/python bench/peers/tokenizer_rate.py tokenizer.json page.txt --program tiktoken

tiktoken gets the same vocabulary: ranks are ids, since the merges of DeepSeek's files are in the order of
their ids, and the three cuts of the pre-tokenizer become one expression. `ids_hash` (FNV-1a over the ids
as little-endian 32-bit words) tells whether two programs agree. Prints one JSON object.
"""

import argparse
import json
import os
import statistics
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

CJK = "一-龥぀-ゟ゠-ヿ"


def one_expression(pre_tokenizer):
    """The cuts of a DeepSeek tokenizer, first numbers, then CJK, then the rest, as alternatives."""
    splits = [part["pattern"]["Regex"] for part in pre_tokenizer["pretokenizers"] if part["type"] == "Split"]
    numbers, cjk, rest = splits
    # White space before a number ends there, and words end where CJK begins: the cuts came before.
    rest = rest.replace(r"|\s+(?!\S)|\s+", rf"|\s+(?=[\p{{N}}{CJK}])|\s+(?!\S)|\s+")
    rest = rest.replace(r"[\p{L}\p{M}]+", rf"(?:(?![{CJK}])[\p{{L}}\p{{M}}])+")
    return f"{numbers}|{cjk}|{rest}"


def byte_of_char():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(256 + at): byte for at, byte in enumerate(others)}


def with_tiktoken(path):
    import tiktoken

    with open(path, encoding="utf-8") as file:
        tokenizer = json.load(file)
    table = byte_of_char()
    added = {token["content"] for token in tokenizer["added_tokens"]}
    ranks = {
        bytes(table[char] for char in token): id
        for token, id in tokenizer["model"]["vocab"].items()
        if token not in added
    }
    encoding = tiktoken.Encoding(
        "deepseek", pat_str=one_expression(tokenizer["pre_tokenizer"]), mergeable_ranks=ranks, special_tokens={}
    )
    return f"tiktoken {tiktoken.__version__}", encoding.encode_ordinary


def with_tokenizers(path):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(path)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    return f"tokenizers {tokenizers.__version__}", encode


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for id in ids:
        for byte in id.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokenizer", help="a `tokenizer.json` of DeepSeek")
    parser.add_argument("text", help="a file in UTF-8")
    parser.add_argument("--program", choices=["tokenizers", "tiktoken"], required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    open_it = {"tokenizers": with_tokenizers, "tiktoken": with_tiktoken}[args.program]
    program, encode = open_it(args.tokenizer)
    with open(args.text, encoding="utf-8", newline="") as file:
        text = file.read()
    n_bytes, rates, ids = len(text.encode()), [], []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        ids = encode(text)
        rates.append(n_bytes / (time.perf_counter() - start))
    print(json.dumps({
        "program": program,
        "bytes": n_bytes,
        "ids": len(ids),
        "ids_hash": fnv1a(ids),
        "first_bytes_per_s": rates[0],
        "bytes_per_s": statistics.median(rates[1:]),
        "bytes_per_s_rounds": rates[1:],
    }))


if __name__ == "__main__":
    main()
