"""The table of docs/performance.md: Fathom beside other programs, on the same files, in turns.

    bench/peers/setup.sh PEERS
    PEERS/bin/python bench/peers/compare.py --peers PEERS --models MODELS --out table.md

MODELS holds the files that `--make` writes there: stand-ins of random weights in the shapes of
Distill-Qwen-1.5B and of eight layers of V2-Lite, in BF16, Q8_0 and llama.cpp's own Q4_K_M.
Every row is measured in rounds: Fathom, llama.cpp, ik_llama.cpp, again. Ratios are medians over the
rounds, and so are the shares of the limits that Fathom measures between its own passes. What is not
installed is left out with a note. --quick takes a few minutes and is not to be quoted.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import run_json, take_turns

HERE = Path(__file__).resolve().parent
FILES = {
    "Distill-Qwen-1.5B Q8_0": ("qwen15-q8_0.gguf", False),
    "Distill-Qwen-1.5B Q4_K_M": ("qwen15-q4_k_m.gguf", False),
    "Distill-Qwen-1.5B BF16": ("qwen15-bf16.gguf", False),
    "V2-Lite, 8 layers, Q8_0": ("v2l-q8_0.gguf", True),
    "V2-Lite, 8 layers, Q4_K_M": ("v2l-q4_k_m.gguf", True),
}
# What the others allocate lies in pages of 2 MiB, as what Fathom allocates does: some 2 to 5 % for ik_llama.cpp.
LARGE_PAGES = ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]
# Found by trying them all (--all-flags): flash attention, repacking, sizes of passes.
LLAMA_FLAGS = {"-fa": ["--flash", "1", "--repack", "1"]}
LLAMA_ALL = {
    "-fa": ["--flash", "1", "--repack", "1"],
    "no fa": ["--flash", "0", "--repack", "1"],
    "-fa, no repacking": ["--flash", "1", "--repack", "0"],
}
IK_FLAGS = {"-fa -rtr": ["--flash", "1", "--repack", "1"]}
IK_ALL = {
    "-fa -rtr": ["--flash", "1", "--repack", "1"],
    "-fa": ["--flash", "1", "--repack", "0"],
}
ROWS = ["decode", "prefill", "moe", "fp8", "mtp", "batch", "streams", "train", "rollouts", "tokenizer", "start"]


class Table:
    """Rows of figures: name to the values of its rounds."""

    def __init__(self):
        self.rows = []

    def add(self, work, case, unit, ours, peers, share=None, goal="", smaller_is_better=False):
        if not ours:
            return
        self.rows.append(dict(work=work, case=case, unit=unit, ours=ours, peers=peers, share=share, goal=goal,
                              smaller=smaller_is_better))
        print(self.line(self.rows[-1]), file=sys.stderr, flush=True)

    @staticmethod
    def figure(values):
        if not values:
            return "–"
        digits = 0 if statistics.median(values) >= 100 else 1 if statistics.median(values) >= 3 else 2
        middle = f"{statistics.median(values):.{digits}f}"
        return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"

    @staticmethod
    def ratio(row, values):
        pairs = [(b / a if row["smaller"] else a / b) for a, b in zip(row["ours"], values) if a and b]
        return f"{statistics.median(pairs):.2f}×" if pairs else "–"

    def line(self, row):
        peers, best = [], {}
        for name, values in row["peers"].items():
            program, _, flags = name.partition(" | ")
            keep = min if row["smaller"] else max
            known = best.get(program)
            if known is None or keep([values, known[1]], key=statistics.median) is values:
                best[program] = (flags, values)
        for program, (flags, values) in best.items():
            label = f"{program} {flags}".strip()
            peers.append(f"{label}: {self.figure(values)}, **{self.ratio(row, values)}**")
        share = f"{row['share'] * 100:.0f} %" if row["share"] else "–"
        cells = [row["work"], row["case"], f"{self.figure(row['ours'])} {row['unit']}", "<br>".join(peers) or "–",
                 share, row["goal"]]
        return "| " + " | ".join(cells) + " |"

    def markdown(self):
        head = ["| work | case | Fathom | others, and Fathom's ratio to them | share of limit | goal |",
                "|---|---|---|---|---|---|"]
        return "\n".join(head + [self.line(row) for row in self.rows]) + "\n"


class Bench:
    def __init__(self, args):
        self.args, self.table = args, Table()
        self.fathom = [args.fathom, "bench"]
        self.python = str(args.peers / "bin" / "python")
        self.flags = {
            "llama.cpp": (args.peers / "bin" / "llama_rate", LLAMA_ALL if args.all_flags else LLAMA_FLAGS),
            "ik_llama.cpp": (args.peers / "bin" / "ik_rate", IK_ALL if args.all_flags else IK_FLAGS),
        }

    def peers(self, model, jobs, rounds, lite):
        """Commands of the installed peers, by name and flags."""
        commands = {}
        for program, (path, variants) in self.flags.items():
            if not path.exists():
                print(f"note: no {path}: {program} is left out", file=sys.stderr)
                continue
            for flags, words in variants.items():
                commands[f"{program} | {flags}"] = [
                    *LARGE_PAGES, path, model, "--turns", "--threads", self.args.threads, "--rounds", rounds, *words,
                    *(["--lite", "1"] if lite else []),
                    *(["--state", self.args.state] if self.args.state else []), *jobs,
                ]
        return commands

    def ours(self, what, model, rounds, *words):
        return [*self.fathom, what, model, "--threads", self.args.threads, "--rounds", rounds, "--json", "--turns",
                *self.args.ours.split(), *words]

    def models(self, moe):
        for label, (file, lite) in FILES.items():
            path = self.args.models / file
            if lite != moe or (self.args.only and not re.search(self.args.only, label)):
                continue
            if path.exists():
                yield label, path, lite
            else:
                print(f"note: no {path}: {label} is left out", file=sys.stderr)

    def by_job(self, results, job, figure):
        """Values of every peer in the rounds of a job."""
        values = {name: [line[figure] for line in lines if line.get("job") == job and figure in line]
                  for name, lines in results.items() if name != "ours"}
        return {name: some for name, some in values.items() if some}

    def decode_of(self, moe):
        depth = (2048 if self.args.quick else 8192) if moe else (1024 if self.args.quick else 4096)
        rounds, tokens = self.args.rounds, 32 if self.args.quick else 64
        goal = "1.15×, 80 %" if moe else "1.10×, 85 %"
        for label, path, lite in self.models(moe):
            jobs = [f"decode:{tokens}@0", f"decode:{tokens}@{depth}"]
            ours = self.ours("decode", path, rounds, "--tokens", tokens, "--depth", f"0,{depth}")
            results = take_turns({"ours": ours} | self.peers(path, jobs, rounds, lite))
            for job, row in zip(jobs, self.rows_of(results)):
                peers = self.by_job(results, job, "tokens_per_s")
                case = f"{label}, depth {row['depth_tokens']}"
                self.table.add("decode", case, "tokens/s", row["tokens_per_s_rounds"], peers,
                               row["share_of_read_limit"], goal)

    def prefill_of(self, moe):
        rounds = max(1, self.args.rounds - 1)
        sizes = [512] if self.args.quick else [512, 2048]
        for label, path, lite in self.models(moe):
            jobs = [f"prefill:{n}" for n in sizes]
            ours = self.ours("prefill", path, rounds, "--tokens", ",".join(map(str, sizes)))
            results = take_turns({"ours": ours} | self.peers(path, jobs, rounds, lite))
            for job, row in zip(jobs, self.rows_of(results)):
                peers = self.by_job(results, job, "tokens_per_s")
                goal = "1.15×" if moe else "llama.cpp 1.2×, ik 1.0×, 60 %"
                self.table.add("prefill", f"{label}, {row['tokens']} tokens", "tokens/s",
                               row["tokens_per_s_rounds"], peers, row["share_of_peak"], goal)

    @staticmethod
    def rows_of(results):
        return results["ours"][-1]["rows"] if results.get("ours") else []

    def decode(self):
        self.decode_of(moe=False)

    def prefill(self):
        self.prefill_of(moe=False)

    def moe(self):
        self.decode_of(moe=True)
        self.prefill_of(moe=True)

    def fp8(self):
        model = self.args.models / "qwen15"
        words = ("--tokens", 32 if self.args.quick else 64)
        commands = {
            "ours": self.ours("decode", model, self.args.rounds, "--quant", "fp8", *words),
            "bf16": self.ours("decode", model, self.args.rounds, *words),
        }
        results = take_turns(commands)
        if self.rows_of(results) and results.get("bf16"):
            row, bf16 = self.rows_of(results)[0], results["bf16"][-1]["rows"][0]
            self.table.add("decode, FP8 blocks", "Distill-Qwen-1.5B", "tokens/s", row["tokens_per_s_rounds"],
                           {"Fathom BF16": bf16["tokens_per_s_rounds"]}, row["share_of_read_limit"], "1.7×, 80 %")

    def mtp(self):
        run = self.args.trained
        if not run or not Path(run).exists():
            print("note: no trained run with an MTP module (--trained): mtp is left out", file=sys.stderr)
            return
        questions, rounds = 50 if self.args.quick else 100, max(2, self.args.rounds)
        for model in self.args.trained_models.split(","):
            # Held-out questions in one process, with drafts and without in turns, every answer compared.
            told = run_json([*self.fathom, "drafts", run, "--model", model, "--questions", questions, "--rounds", rounds,
                             "--threads", self.args.threads, "--json"])
            if not told:
                continue
            case = (f"{Path(run).name}, `{model}`, {told['questions']} questions, greedy, "
                    f"{told['same_answers']} of {told['answers']} answers the same")
            self.table.add("decode with MTP drafts", case, "tokens/s", told["tokens_per_s_rounds"],
                           {"Fathom without": told["tokens_per_s_without_rounds"]}, None, "1.3×, same text")

    def batches(self, jobs, rounds, work, goal, figure, unit, label="Distill-Qwen-1.5B Q4_K_M"):
        file, lite = FILES[label]
        path = self.args.models / file
        if not path.exists():
            print(f"note: no {path}: {work} is left out", file=sys.stderr)
            return
        for n, prompt, tokens in jobs:
            job = f"batch:{n}:{prompt}:{tokens}"
            ours = self.ours("batch", path, rounds, "--sequences", n, "--prompt", prompt, "--tokens", tokens)
            results = take_turns({"ours": ours} | self.peers(path, [job], rounds, lite))
            for row in self.rows_of(results):
                case = f"{label}, {n} sequences, {prompt} + {tokens}"
                share = row["share_of_read_limit"] if figure == "tokens_per_s" else None
                self.table.add(work, case, unit, row[f"{figure}_rounds"], self.by_job(results, job, figure), share, goal)
                if work.startswith("streams"):
                    self.table.add(f"{work}, first token", case, "s", row["first_token_s_rounds"],
                                   self.by_job(results, job, "first_token_s"), None, "", smaller_is_better=True)

    def batch(self):
        sizes = [(1, 32, 32), (4, 32, 32), (16, 32, 32), (64, 32, 32)]
        self.batches(sizes[:3] if self.args.quick else sizes, max(1, self.args.rounds - 1), "decode in a batch", "1.2×",
                     "tokens_per_s", "tokens/s")

    def streams(self):
        tokens = 16 if self.args.quick else 64
        self.batches([(16, 128, tokens)], 1, "streams", "1.5× llama-server",
                     "answer_tokens_per_s", "answer tokens/s")

    def train(self):
        seconds = "3" if self.args.quick else "8"
        # Where the goal is the other's best setting, ours may choose too: small matrices are faster in f32.
        rows = [
            ("llama-34m", "34m", ["bf16"], [["--dtype", "bf16-autocast"]], "1.6×, 65 %"),
            ("llama-0.9m", "0.87m", ["f32", "bf16"], [["--dtype", "bf16-autocast"], ["--dtype", "f32"]], "2×"),
            ("v3-16m", "v3-16m", ["f32", "bf16"], [["--dtype", "bf16-autocast", "--experts", "grouped_mm"]], "4×, 40 %"),
        ]
        for shape, model, precisions, variants, goal in rows:
            ours, shares, peers = {}, {}, {}
            for _ in range(1 if self.args.quick else 2):
                for precision in precisions:
                    told = run_json([*self.fathom, "train", "--shape", shape, "--precision", precision, "--seconds", seconds,
                                     "--json", "--threads", self.args.threads])
                    if told:
                        told = told["shapes"][0]
                        ours.setdefault(precision, []).append(told["tokens_per_s"])
                        shares[precision] = next((told[key] for key in told if key.startswith("share_of")), None)
                for words in variants:
                    told = run_json([self.python, HERE / "train_step.py", "--model", model, "--threads",
                                     self.args.threads, *words])
                    if told:
                        peers.setdefault(f"PyTorch | {' '.join(words)}", []).append(told["tokens_per_s"])
            for precision, rates in ours.items():
                self.table.add("training step", f"{shape}, {precision}", "tokens/s", rates, peers, shares[precision], goal)

    def rollouts(self):
        ours, peers = [], {}
        for _ in range(self.args.rounds):
            # Both take the likeliest token: how draws are made differs too much to be compared.
            told = run_json([*self.fathom, "rollout", "--greedy", "--json", "--threads", self.args.threads])
            if told is None:
                return
            rows = told.get("rows") or told.get("shapes") or [told]
            ours.append(rows[-1]["tokens_per_s"])
            told = run_json([self.python, HERE / "generate_batch.py", "--threads", self.args.threads, "--repeats", "1"])
            if told:
                peers.setdefault("transformers | generate", []).append(told["tokens_per_s"])
        self.table.add("rollouts", "v3-16m, 64 sequences, greedy", "tokens/s", ours, peers, None, "10×")

    def tokenizer(self):
        if not (self.args.tokenizer and self.args.text):
            print("note: no --tokenizer and --text: tokenizer is left out", file=sys.stderr)
            return
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text.txt"
            raw = Path(self.args.text).read_bytes()[: 1_000_000 if self.args.quick else 3_000_000]
            text.write_text(raw.decode(errors="ignore"))
            ours, hashes, peers = [], set(), {}
            for _ in range(self.args.rounds):
                told = run_json([*self.fathom, "tokenizer", self.args.tokenizer, "--file", text, "--rounds", "3", "--json"])
                if told:
                    ours.append(told["bytes_per_s"] / 1e6)
                    hashes.add(told["ids_hash"])
                for program in ["tokenizers", "tiktoken"]:
                    told = run_json([self.python, HERE / "tokenizer_rate.py", self.args.tokenizer, text,
                                     "--program", program, "--rounds", "1"])
                    if told:
                        peers.setdefault(program, []).append(told["bytes_per_s"] / 1e6)
                        hashes.add(told["ids_hash"])
            case = "the same ids" if len(hashes) == 1 else "NOT the same ids"
            self.table.add("tokenizer, one thread", case, "MB/s", ours, peers, None, "6× / 1.0×")

    def start(self):
        model = self.args.models / FILES["Distill-Qwen-1.5B Q4_K_M"][0]
        if not model.exists():
            return
        ours, memory, peers = [], [], {}
        size = model.stat().st_size
        for _ in range(self.args.rounds):
            told = run_json([*self.fathom, "start", model, "--rounds", "1", "--json", "--threads", self.args.threads])
            if told:
                ours.append(told["first_token_s"])
                memory.append(told["peak_rss_over_file"])
            for program, (path, _) in self.flags.items():
                for flags, words in [("mapped", ["--repack", "0"]), ("repacked", ["--repack", "1"])]:
                    if path.exists():
                        start = time.monotonic()
                        told = self.first_line([path, model, "--threads", self.args.threads, *words, "first:16"])
                        if told:
                            peers.setdefault(f"{program} | {flags}", []).append(told[1] - start)
                            peers_memory = told[0]["peak_rss_bytes"] / size
                            print(f"note: {program}, {flags}: memory {peers_memory:.2f} of the file", file=sys.stderr)
        if memory:
            case = f"{model.name}, memory {statistics.median(memory):.2f} of the file"
            self.table.add("start to first token", case, "s", ours, peers, None, "no later; 1.1 of the file",
                           smaller_is_better=True)

    @staticmethod
    def first_line(command):
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        line = process.stdout.readline()
        heard = time.monotonic()
        process.communicate()
        return (json.loads(line), heard) if line.startswith("{") else None


def make(args):
    """Writes the files of MODELS that are missing."""
    fathom, models = args.fathom, args.models
    models.mkdir(parents=True, exist_ok=True)

    def step(target, *command):
        if not (models / target).exists():
            print(f"writing {models / target} …", file=sys.stderr, flush=True)
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)

    def mixture(source, target, name, *words):
        part = models / f"{target}.part"
        step(target, args.peers / "bin" / "python", HERE / "quantise.py", models / source, part, name, *words)
        if part.exists():
            part.rename(models / target)

    vocabulary = ["--tokenizer", args.tokenizer] if args.tokenizer else []
    step("qwen15", fathom, "bench", "stand-in", "distill-qwen-1.5b", models / "qwen15", *vocabulary)
    step("v2l", fathom, "bench", "stand-in", "v2-lite", models / "v2l", "--layers", "8")
    step("qwen15-bf16.gguf", fathom, "export", models / "qwen15", models / "qwen15-bf16.gguf", "--format", "bf16")
    step("qwen15-q8_0.gguf", fathom, "export", models / "qwen15", models / "qwen15-q8_0.gguf", "--format", "q8_0")
    step("v2l-q8_0.gguf", fathom, "export", models / "v2l", models / "v2l-q8_0.gguf", "--format", "q8_0")
    mixture("qwen15-bf16.gguf", "qwen15-q4_k_m.gguf", "Q4_K_M")
    mixture("v2l-q8_0.gguf", "v2l-q4_k_m.gguf", "Q4_K_M", "--lite")


def machine():
    brand = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{brand}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", default="target/release/fathom")
    parser.add_argument("--peers", type=Path, required=True, help="the folder that setup.sh filled")
    parser.add_argument("--models", type=Path, default=Path("/tmp"), help="the folder of the files [default: /tmp]")
    parser.add_argument("--make", action="store_true", help="write the files of MODELS that are missing, and stop")
    parser.add_argument("--rows", default=",".join(ROWS), help="some of " + ",".join(ROWS))
    parser.add_argument("--only", metavar="PATTERN", help="only models whose name matches, such as Q8_0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--all-flags", action="store_true", help="try every setting of the others, keep the best")
    parser.add_argument("--ours", default="--no-mmap", metavar="WORDS",
                        help="more words for `fathom bench`; --ours= for none [default: %(default)s]")
    parser.add_argument("--state", metavar="DIR", help="keep the others' filled caches here between runs")
    parser.add_argument("--trained", metavar="RUN", help="a trained run with an MTP module, such as runs/r1-tiny")
    parser.add_argument("--trained-models", default="base,r1", help="stages of that run [default: %(default)s]")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json of DeepSeek")
    parser.add_argument("--text", metavar="FILE", help="text for the tokenizers")
    parser.add_argument("--out", type=Path, help="write the table here, and all figures beside it as .json")
    args = parser.parse_args()
    unknown = set(args.rows.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    if args.make:
        return make(args)
    if args.quick:
        args.rounds = 1
    bench, start = Bench(args), time.monotonic()
    for row in args.rows.split(","):
        try:
            getattr(bench, row)()
        except (KeyError, IndexError, ValueError, OSError) as error:
            print(f"note: {row}: {type(error).__name__}: {error}", file=sys.stderr)
    minutes = (time.monotonic() - start) / 60
    facts = (f"{machine()}; {args.threads} threads; {datetime.date.today()}; {args.rounds} rounds, "
             f"{minutes:.0f} minutes{'; --quick' if args.quick else ''}\n")
    text = facts + "\n" + bench.table.markdown()
    print(text)
    if args.out:
        args.out.write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(bench.table.rows, indent=1))


if __name__ == "__main__":
    main()
