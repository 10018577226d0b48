"""What cached prefixes are worth: the wait for the first token of a long prompt that is repeated, goes on, or comes after a restart.

    python3 bench/clients/cache.py MODEL --fathom target/release/fathom --prompt 2048

Hits are those that `usage` tells. Every answer is compared with the first one: hits change no token."""

import argparse
import asyncio
import os
import tempfile

import load
import server
import wire


def ask(one, model, prompt, n_tokens):
    """The wait for the first token in seconds, tokens that were cached, and the text."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": n_tokens,
        "temperature": 0.6,
        "seed": 7,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    came = asyncio.run(wire.stream(one.url, "/v1/completions", body))
    if not came.done:
        raise SystemExit(f"no answer: {came.error}")
    details = came.usage.get("prompt_tokens_details") or {}
    hit = came.usage.get("prompt_cache_hit_tokens", details.get("cached_tokens", 0))
    return came.times[0], hit, came.text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model for `fathom serve`")
    parser.add_argument("--fathom", default="target/release/fathom")
    parser.add_argument("--fathom-args", help="more arguments, separated by blanks")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt", type=int, default=2048, help="tokens")
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    found, texts = [], {}

    def note(what, one, prompt, kind):
        seconds, hit, text = ask(one, name, prompt, args.tokens)
        same = texts.setdefault(kind, text) == text
        found.append({"what": what, "prompt": len(prompt), "hit": hit, "ttft_s": seconds, "same": same})
        print(
            f"{what}: {hit} of {len(prompt)} tokens cached, first token after {seconds:.3f} s"
            + ("" if same else ", ANOTHER ANSWER"),
            flush=True,
        )

    with tempfile.TemporaryDirectory() as scratch:
        disk = ["--cache-disk", "4GiB", "--cache-dir", f"{scratch}/prefixes"]
        command = server.fathom(args, scratch, "--threads", args.threads, *disk)
        with server.Server(command, log=f"{scratch}/log") as one:
            name, n_vocab = load.vocabulary_of(one.url, None)
            prompt = load.prompt_of(args.prompt, n_vocab, 1)
            longer = prompt + load.prompt_of(64, n_vocab, 2)
            other = load.prompt_of(args.prompt // 2, n_vocab, 3)
            note("cold", one, prompt, "first")
            for _ in range(args.repeats):
                note("repeated", one, prompt, "first")
            note("64 tokens more", one, longer, "longer")
            note("half as long, another text", one, other, "other")
        with server.Server(command, log=f"{scratch}/log") as one:
            note("after a restart", one, prompt, "first")
            note("repeated", one, prompt, "first")
            note("64 tokens more", one, longer, "longer")
        size = sum(
            os.path.getsize(os.path.join(at, file)) for at, _, files in os.walk(f"{scratch}/prefixes") for file in files
        )
        print(f"{size / 2**20:.0f} MiB on disk, started in {one.start_s:.1f} s")
    server.dump(args.json, found)
    if not all(one["same"] for one in found):
        raise SystemExit("an answer changed")


if __name__ == "__main__":
    main()
