"""Fathom and llama.cpp's server in turns on the same GGUF file: 16 and 64 streams of 128 tokens in and 64 out.

    python3 bench/clients/streams.py MODEL.gguf --fathom target/release/fathom --llama-server DIR/bin/llama-server

`bench/peers/setup.sh DIR llama llama-server` makes the other one. Both get the same number of threads and room for 64
sequences; each is started, warmed up by one short stream, measured, stopped, and then it is the other's turn. The load comes
from the same machine; what its client took of the processor is printed."""

import argparse
import asyncio
import os
import tempfile
import time

import load
import server


def commands(args, scratch):
    """How each server is started."""
    most = max(map(int, args.streams.split(",")))
    # Whole cache blocks of 64, and a little room as llama-server splits its context evenly.
    context = -(-(args.prompt + args.tokens + 1) // 64) * 64
    room = ["--threads", args.threads, "--parallel", most, "--context", context]
    fathom = server.fathom(args, scratch, *room)
    llama = [
        args.llama_server,
        "-m",
        args.model,
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "-t",
        str(args.threads),
        "-tb",
        str(args.threads),
        "-np",
        str(most),
        "-c",
        str(most * context),
        "-cram",
        "0",
        "--no-webui",
        *(args.llama_args or "").split(),
    ]
    both = {"fathom": fathom, "llama-server": llama}
    return {name: both[name] for name in args.servers.split(",")}


def measure(name, command, args, scratch, turn):
    """The figures of one server's turn."""
    found = []
    with server.Server(command, log=f"{scratch}/{name}.log") as one:
        model, n_vocab = load.vocabulary_of(one.url, None)
        asyncio.run(load.together(one.url, model, n_vocab, 1, 16, 8, seed=99))
        for at, n_streams in enumerate(map(int, args.streams.split(","))):
            mine, theirs = time.process_time(), one.cpu_s()
            figures = asyncio.run(
                load.together(one.url, model, n_vocab, n_streams, args.prompt, args.tokens, seed=10 * turn + at)
            )
            figures |= {
                "server": name,
                "turn": turn,
                "client_cpu_s": time.process_time() - mine,
                "server_cpu_s": one.cpu_s() - theirs,
                "rss_anon_mib": one.rss_mib(),
                "start_s": one.start_s,
            }
            found.append(figures)
            server.show([load.HEADING, load.row(name, figures)])
            for error in sorted(set(figures["errors"]))[:3]:
                print(f"error: {error}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--fathom", default="target/release/fathom")
    parser.add_argument("--llama-server", default="llama-server")
    parser.add_argument("--servers", default="fathom,llama-server", help="whose turn comes first, second")
    parser.add_argument("--fathom-args", help="more arguments, separated by blanks")
    parser.add_argument("--llama-args", help="more arguments, separated by blanks")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--streams", default="16,64")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=1, help="how often each server is measured")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(args.turns):
            for name, command in commands(args, scratch).items():
                found += measure(name, command, args, scratch, turn)
                server.dump(args.json, found)
    print(f"\n{args.model}, {args.threads} threads, {args.prompt} tokens in, {args.tokens} out")
    server.show([load.HEADING] + [load.row(one["server"], one) for one in found])
    show_ratios(found)


def show_ratios(found):
    """Fathom's figures over the other's, of the best turn of each."""
    for n_streams in sorted({one["streams"] for one in found}):
        best = {}
        for one in (one for one in found if one["streams"] == n_streams):
            if one["answer_tokens_per_s"] > best.get(one["server"], {}).get("answer_tokens_per_s", 0):
                best[one["server"]] = one
        if {"fathom", "llama-server"} <= best.keys():
            ours, theirs = best["fathom"], best["llama-server"]
            ratios = {
                key: ours[key] / theirs[key] for key in ("answer_tokens_per_s", "ttft_p50", "ttft_p95", "gap_p95")
            }
            print(
                f"{n_streams} streams, fathom / llama-server: "
                + ", ".join(f"{key} {value:.2f}" for key, value in ratios.items())
            )
    for one in found:
        print(
            f"{one['server']} {one['streams']}: client {one['client_cpu_s']:.1f} s of processor, server {one['server_cpu_s']:.1f} s,"
            f" {one['rss_anon_mib']:.0f} MiB of memory of its own, started in {one['start_s']:.1f} s"
        )


if __name__ == "__main__":
    main()
