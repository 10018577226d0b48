"""Many streams at once against a server that speaks OpenAI's completions: tokens a second, waiting times.

    python3 bench/clients/load.py --url http://127.0.0.1:8000 --streams 16,64 --prompt 128 --tokens 64

Prompts are random token ids, different for every stream, so that no cache helps; every answer has exactly `--tokens`
tokens (`ignore_eos`, greedy). All streams begin at the same moment. The first token is timed where its event arrives.
"""

import argparse
import asyncio
import json
import random
import statistics
import time

import server
import wire


def prompt_of(n_tokens, n_vocab, seed):
    """Random ids, clear of the control tokens that stand at either end of most vocabularies."""
    draw = random.Random(seed)
    low, high = (1000, n_vocab - 2000) if n_vocab > 10_000 else (n_vocab // 4, n_vocab - n_vocab // 8)
    return [draw.randrange(low, high) for _ in range(n_tokens)]


def vocabulary_of(url, model):
    """How many tokens the model has: llama-server says it, of ours it is tried which ids are refused."""
    listed = wire.ask(url, "/v1/models").json()["data"]
    of_model = next(entry for entry in listed if model in (None, entry["id"]))
    if "meta" in of_model:
        return of_model["id"], of_model["meta"]["n_vocab"]
    low, high = 0, 1 << 22
    while high - low > 1:
        middle = (low + high) // 2
        ok = wire.ask(url, "/detokenize", {"tokens": [middle - 1]}).status == 200
        low, high = (middle, high) if ok else (low, middle)
    return of_model["id"], low


def percentile(values, percent):
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


async def together(url, model, n_vocab, n_streams, n_prompt, n_tokens, seed=0):
    """Runs the streams and gives their figures; times are in seconds."""
    bodies = [
        {
            "model": model,
            "prompt": prompt_of(n_prompt, n_vocab, 1_000_003 * seed + n),
            "max_tokens": n_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for n in range(n_streams)
    ]
    began = time.perf_counter()
    streams = await asyncio.gather(*(wire.stream(url, "/v1/completions", body) for body in bodies))
    seconds = time.perf_counter() - began
    whole = [stream for stream in streams if stream.done and not stream.error]
    gaps = [later - earlier for stream in whole for earlier, later in zip(stream.times, stream.times[1:])]
    firsts = [stream.times[0] for stream in whole if stream.times]
    n_answer = sum(stream.usage["completion_tokens"] for stream in whole if stream.usage)
    n_read = sum(stream.usage["prompt_tokens"] for stream in whole if stream.usage)
    # A stream's own rate once it speaks: what a person sees.
    own = [
        (len(s.times) - 1) / (s.times[-1] - s.times[0]) for s in whole if len(s.times) > 1 and s.times[-1] > s.times[0]
    ]
    return {
        "streams": n_streams,
        "seconds": seconds,
        "answer_tokens": n_answer,
        "prompt_tokens": n_read,
        "answer_tokens_per_s": n_answer / seconds,
        "all_tokens_per_s": (n_answer + n_read) / seconds,
        "ttft_p50": percentile(firsts, 50),
        "ttft_p95": percentile(firsts, 95),
        "gap_p50": percentile(gaps, 50),
        "gap_p95": percentile(gaps, 95),
        "own_tokens_per_s": statistics.median(own) if own else float("nan"),
        "comments": sum(stream.n_comments for stream in streams),
        "errors": [stream.error or "no [DONE]" for stream in streams if stream not in whole],
    }


HEADING = (
    "server",
    "streams",
    "s",
    "out tok/s",
    "all tok/s",
    "TTFT p50",
    "p95 s",
    "gap p50",
    "p95 ms",
    "own tok/s",
    "tokens",
    "errors",
)


def row(name, found):
    """A line of the table."""
    return (
        name,
        found["streams"],
        f"{found['seconds']:.1f}",
        f"{found['answer_tokens_per_s']:.1f}",
        f"{found['all_tokens_per_s']:.1f}",
        f"{found['ttft_p50']:.2f}",
        f"{found['ttft_p95']:.2f}",
        f"{1e3 * found['gap_p50']:.0f}",
        f"{1e3 * found['gap_p95']:.0f}",
        f"{found['own_tokens_per_s']:.2f}",
        found["answer_tokens"],
        len(found["errors"]),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", help="its name [default: the first that the server lists]")
    parser.add_argument("--streams", default="16,64", help="how many at once, one run after the other")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    model, n_vocab = vocabulary_of(args.url, args.model)
    table, figures = [HEADING], []
    for at, n_streams in enumerate(map(int, args.streams.split(","))):
        found = asyncio.run(
            together(args.url, model, n_vocab, n_streams, args.prompt, args.tokens, seed=args.seed + at)
        )
        figures.append(found)
        table.append(row(model, found))
        for error in sorted(set(found["errors"])):
            print(f"error: {error}")
    server.show(table)
    server.dump(args.json, figures)
    if any(found["errors"] for found in figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
