"""Minutes of mixed traffic with a crash in the middle: no answer lost, none mixed up, memory flat.

    python3 bench/clients/soak.py MODEL --fathom target/release/fathom --minutes 5

First a set of seeded requests is answered one by one. Then 64 clients ask for them at random: streamed, whole, read slowly,
left in the middle, left before the first byte; others flood the server with bad requests. Half-way the server is killed and
started again. Every complete answer must equal the one that was given alone. A small model makes the most of the time: what
is tried here is the server."""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time

import server
import wire

WORDS = "apples pears buys sells gives Tom Anna 3 4 12 70 小明 苹果 how many more left in all each box".split()
MODEL = "deepseek-chat"


def requests(n, max_tokens):
    """Different requests of all kinds, all seeded."""
    draw, made = random.Random(5), []
    for at in range(n):
        text = " ".join(draw.choices(WORDS, k=draw.choice([4, 20, 60, 120])))
        body = {
            "model": MODEL,
            "seed": at,
            "max_tokens": draw.randrange(4, max_tokens),
            "temperature": draw.choice([0, 0.7, 1.2]),
        }
        if at % 3 == 0:
            # Long answers, so that many run at once.
            made.append(("/v1/completions", {**body, "prompt": text, "ignore_eos": True}))
            continue
        body["messages"] = [{"role": "user", "content": text}]
        if at % 6 == 1:
            body |= {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 80}
        elif at % 6 == 2:
            body |= {
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                "max_tokens": 60,
            }
        made.append(("/v1/chat/completions", body))
    return made


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 999}, "sure": {"type": "boolean"}},
    "required": ["n", "sure"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "count", "strict": True, "parameters": SCHEMA}}
BAD = [
    ("/v1/chat/completions", {"model": MODEL}),
    ("/v1/chat/completions", {"model": "other", "messages": []}),
    ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "temperature": 9}),
    ("/v1/completions", {"model": MODEL, "prompt": [99999999]}),
    ("/nothing", {}),
]


def said(reply):
    """What a whole reply says, without what is new every time."""
    choice = reply["choices"][0]
    message = choice.get("message")
    if message is None:
        return json.dumps([choice["text"], None, choice["finish_reason"]])
    calls = [[call["function"]["name"], call["function"]["arguments"]] for call in message.get("tool_calls") or []]
    text = (message.get("reasoning_content") or "") + (message.get("content") or "")
    return json.dumps([text, calls or None, choice["finish_reason"]])


class Soak:
    """What all clients share."""

    def __init__(self, args, command):
        self.args, self.command = args, command
        self.requests = requests(args.kinds, args.max_tokens)
        self.alone = []
        self.counts = dict.fromkeys(
            (
                "streamed",
                "whole",
                "slow",
                "left",
                "left at once",
                "bad",
                "refused as full",
                "cut by the kill",
                "mixed",
                "lost",
                "bad answered",
            ),
            0,
        )
        self.tokens = 0
        self.examples = []
        self.until = 0.0
        self.down = []  # moments at which the server was killed
        self.memory = []  # (seconds, life of the server, MiB, open files)

    def lives(self):
        return len(self.down)

    async def client(self, number):
        draw = random.Random(1000 + number)
        while time.monotonic() < self.until:
            which = draw.randrange(len(self.requests))
            kind = draw.choices(["streamed", "whole", "slow", "left", "left at once"], [10, 5, 3, 4, 1])[0]
            await self.one(which, kind, draw)

    async def one(self, which, kind, draw):
        path, body = self.requests[which]
        began = time.monotonic()
        if kind == "whole":
            status, text, error, retry = await whole(self.one_url(), path, body)
            done = status == 200 and not error
        else:
            leave = {"left": draw.randrange(1, 6), "left at once": 0}.get(kind)
            pause = draw.uniform(0.02, 0.3) if kind == "slow" else 0.0
            came = await stream(self.one_url(), path, body, pause, leave)
            status, text, error, retry, done = came.status, came.said, came.error, came.retry_after, came.done
            self.tokens += (came.usage or {}).get("completion_tokens", 0)
        if done:
            self.counts[kind] += 1
            if text != self.alone[which]:
                self.note("mixed", f"request {which} {kind}: {text[:150]} instead of {self.alone[which][:150]}")
        elif kind.startswith("left") and status in (200, None) and not error:
            self.counts[kind] += 1
        elif status in (429, 503):
            self.counts["refused as full"] += 1
            if not retry:
                self.note("lost", f"{status} without Retry-After: {error}")
            await asyncio.sleep(0.2)
        elif self.was_down(began):
            self.counts["cut by the kill"] += 1
            await asyncio.sleep(0.1)
        else:
            self.note("lost", f"request {which} {kind}: status {status}, {error}")
            await asyncio.sleep(0.05)

    def was_down(self, began):
        """Whether the server was killed, or not yet back, since this moment."""
        return any(killed - 1 <= time.monotonic() and began <= back + 1 for killed, back in self.down)

    def one_url(self):
        return self.server.url

    def note(self, kind, example):
        self.counts[kind] += 1
        self.examples.append(f"{kind}: {example}")

    async def flood(self, number):
        draw = random.Random(number)
        while time.monotonic() < self.until:
            path, body = draw.choice(BAD)
            began = time.monotonic()
            status, _, error, _ = await whole(self.one_url(), path, body)
            self.counts["bad"] += 1
            if status is None or not 400 <= status < 500:
                if not self.was_down(began):
                    self.note("bad answered", f"{path} {body}: {status} {error}")
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.args.flood_pause)

    async def watch(self):
        while time.monotonic() < self.until:
            try:
                seconds = self.args.minutes * 60 - (self.until - time.monotonic())
                self.memory.append((seconds, self.lives(), self.server.rss_mib(), self.server.n_files()))
            except OSError:
                pass  # between two lives
            await asyncio.sleep(1)

    async def crash(self):
        await asyncio.sleep(self.args.minutes * 30)
        self.down.append([time.monotonic(), float("inf")])
        self.server.kill()
        port = self.server.port
        self.server = await asyncio.to_thread(server.Server, self.command, port, self.args.log)
        self.down[-1][1] = time.monotonic()

    async def run(self):
        for path, body in self.requests:
            status, text, error, _ = await whole(self.one_url(), path, body)
            if error:
                raise SystemExit(f"{path} alone: {status} {error}")
            self.alone.append(text)
        self.until = time.monotonic() + self.args.minutes * 60
        clients = [self.client(number) for number in range(self.args.clients)]
        floods = [self.flood(number) for number in range(self.args.floods)]
        await asyncio.gather(*clients, *floods, self.watch(), self.crash())
        await self.settle()

    async def settle(self):
        """Nothing may be left behind, and what was answered before is answered again."""
        until = time.monotonic() + 60
        while True:
            health = wire.ask(self.one_url(), "/health").json()
            if not health["running"] and not health["waiting"]:
                break
            if time.monotonic() > until:
                self.note("lost", f"a minute later there is still {health}")
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        self.files_after = self.server.n_files()
        for which, (path, body) in enumerate(self.requests):
            _, text, error, _ = await whole(self.one_url(), path, body)
            if error or text != self.alone[which]:
                self.note("mixed", f"request {which} afterwards: {error or text[:150]}")


async def whole(url, path, body):
    """Status, what was said, an error, and Retry-After of a request that is not streamed."""
    writer = None
    try:
        async with asyncio.timeout(300):
            reader, writer = await asyncio.open_connection(*wire.address(url), limit=1 << 22)
            writer.write(wire.post(path, body, heads="connection: close\r\n"))
            came = await reader.read()
    except (OSError, TimeoutError) as error:
        return None, "", f"{type(error).__name__}: {error}", None
    finally:
        if writer:
            writer.close()
    head, _, payload = came.partition(b"\r\n\r\n")
    status = wire.status_of(head)
    if status is None:
        return None, "", "hung up without an answer", None
    lines = head.decode("latin-1").lower().split("\r\n")
    retry = next((line.split(":")[1].strip() for line in lines if line.startswith("retry-after")), None)
    if "transfer-encoding: chunked" in lines:
        try:
            payload = unchunked(payload)
        except ValueError:
            return status, "", "the body was cut off", retry
    try:
        reply = json.loads(payload)
    except ValueError:
        return status, "", f"no JSON: {payload[:100]}", retry
    if "error" in reply:
        return status, "", json.dumps(reply["error"])[:200], retry
    return status, said(reply), None, retry


def unchunked(payload):
    parts = []
    while True:
        size, _, payload = payload.partition(b"\r\n")
        n = int(size.split(b";")[0], 16)
        if n == 0:
            return b"".join(parts)
        if len(payload) < n + 2:
            raise ValueError("cut off")
        parts.append(payload[:n])
        payload = payload[n + 2 :]


async def stream(url, path, body, pause, leave):
    """As `wire.stream`, with calls of tools gathered: `said` is what a whole reply would say."""
    wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
    came = await wire.stream(url, path, wanted, pause=pause, leave_after=leave, limit=300)
    calls = [[name, arguments] for name, arguments in came.calls]
    came.said = json.dumps([came.text, calls or None, came.finish])
    return came


def flat(memory, life):
    """Memory in one life of the server: after a fifth of it, at its most after that, at its end."""
    of_life = [entry for entry in memory if entry[1] == life]
    settled = of_life[len(of_life) // 5 :]
    if not settled:
        return None
    third = max(1, len(settled) // 3)
    mean = lambda part: sum(entry[2] for entry in part) / len(part)
    return (
        settled[0][2],
        mean(settled[:third]),
        max(entry[2] for entry in settled),
        mean(settled[-third:]),
        of_life[-1][3],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model for `fathom serve`")
    parser.add_argument("--fathom", default="target/release/fathom")
    parser.add_argument("--fathom-args", help="more arguments, separated by blanks")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--floods", type=int, default=4, help="clients that send bad requests only")
    parser.add_argument("--flood-pause", type=float, default=0.02, help="seconds between bad requests of one client")
    parser.add_argument("--kinds", type=int, default=36, help="different requests")
    parser.add_argument("--max-tokens", type=int, default=120)
    parser.add_argument(
        "--growth", type=float, default=24, help="MiB that memory may grow between the thirds of a life"
    )
    parser.add_argument("--log", help="a file for what the server says")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        command = server.fathom(args, scratch)
        soak = Soak(args, command)
        soak.server = server.Server(command, log=args.log)
        files_before = soak.server.n_files()
        try:
            asyncio.run(soak.run())
            figures = server.metrics(soak.server.url)
            status = soak.server.stop()
        finally:
            if soak.server.process.poll() is None:
                soak.server.kill()
    sys.exit(report(args, soak, figures, files_before, status))


def report(args, soak, figures, files_before, status):
    """Prints what happened; 1 if something went wrong."""
    counts = soak.counts
    n_answers = sum(counts[kind] for kind in ("streamed", "whole", "slow"))
    print(
        f"{args.minutes:g} minutes, {args.clients} clients: {n_answers} answers, {n_answers / args.minutes / 60:.0f} a second"
    )
    print(", ".join(f"{kind} {count}" for kind, count in counts.items()))
    killed, back = soak.down[0]
    print(f"killed once, back after {back - killed:.1f} s")
    wrong = counts["mixed"] + counts["lost"] + counts["bad answered"]
    for life in range(2):
        found = flat(soak.memory, life)
        if not found:
            continue
        settled, first, most, last, n_files = found
        print(
            f"life {life + 1}: {settled:.0f} MiB settled, {first:.0f} in the first third, {most:.0f} at most, {last:.0f} in the last third, {n_files} files open"
        )
        if last - first > args.growth:
            wrong += 1
            print(f"memory grew by {last - first:.0f} MiB")
    print(f"files open: {files_before} before, {soak.files_after} after; stopped with {status}")
    if soak.files_after > files_before + 4:
        wrong += 1
    kept = (
        "fathom_jobs_finished_total",
        "fathom_jobs_preempted_total",
        "fathom_answer_tokens_total",
        "fathom_prompt_tokens_total",
    )
    print(
        "second life: "
        + ", ".join(f"{name.removeprefix('fathom_')} {figures.get(name, float('nan')):.0f}" for name in kept)
    )
    for example in soak.examples[:12]:
        print(example)
    print("ok" if not wrong else f"FAIL: {wrong}")
    server.dump(args.json, {"counts": counts, "memory": soak.memory, "metrics": figures})
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
