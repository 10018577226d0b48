"""Runs training steps and rollouts of Fathom and of PyTorch turn by turn; see training.sh.

Every row of the table is one kind of work. A round runs Fathom and the peer's settings one after the
other; figures are medians over rounds of the medians that the programs print, ratios compare Fathom
with the best setting of the peer. The load of the machine is printed with each round: figures taken
beside other programs are worth little.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# Not batched_mm: it copies the weights once per visit of a row. A step does not fit into 24 GiB, and
# `generate` ran at 72 tokens/s.
EXPERTS = ("grouped_mm", "eager")
V3_STEP = [
    ["--model", "v3-16m", "--experts", experts, "--dtype", dtype]
    for experts in EXPERTS
    for dtype in ("bf16-autocast", "f32")
]
GENERATE = [["--experts", experts, "--dtype", dtype] for experts in EXPERTS for dtype in ("f32", "bf16")]
# (row, arguments of `fathom bench`, script of the peer, its settings)
ROWS = [
    ("v3-16m step", ["train", "--shape", "v3-16m"], "train_step.py", V3_STEP),
    (
        "llama-34m step, bf16",
        ["train", "--shape", "llama-34m", "--precision", "bf16"],
        "train_step.py",
        [["--model", "34m", "--dtype", "bf16-autocast"]],
    ),
    (
        "llama-34m step, f32",
        ["train", "--shape", "llama-34m", "--precision", "f32"],
        "train_step.py",
        [["--model", "34m", "--dtype", "f32"]],
    ),
    (
        "llama-0.9m step",
        ["train", "--shape", "llama-0.9m"],
        "train_step.py",
        [["--model", "0.87m", "--dtype", dtype] for dtype in ("f32", "bf16-autocast")],
    ),
    ("rollout, sampled", ["rollout"], "generate_batch.py", [s + ["--sample"] for s in GENERATE]),
    ("rollout, greedy", ["rollout", "--greedy"], "generate_batch.py", GENERATE),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fathom", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--preload", help="another allocator to try with PyTorch")
    parser.add_argument("--seconds", type=float, default=6.0, help="of Fathom's steps per round")
    parser.add_argument("--only", help="rows whose name contains this")
    return parser.parse_args()


def ours(args, what):
    """Rates of Fathom at the precisions that the row leaves open, and the share of the peak."""
    open_precision = "--precision" not in what
    found = {}
    for precision in ("bf16", "f32") if open_precision else (None,):
        command = [args.fathom, "bench", *what, "--json", "--threads", str(args.threads)]
        if precision:
            command += ["--precision", precision]
        command += ["--rounds", "2"] if what[0] == "rollout" else ["--seconds", str(args.seconds)]
        shape = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["shapes"][0]
        found[precision or "as named"] = (shape["tokens_per_s"], shape.get("share_of_f32_peak"))
    return found


def theirs(args, script, setting, preload):
    command = [sys.executable, os.path.join(HERE, script), "--threads", str(args.threads), *setting]
    command += ["--repeats", "1" if script == "generate_batch.py" else "6"]
    if preload:
        command += ["--malloc", "stock", "--preload", preload]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if result.returncode != 0:
        last = (result.stderr.strip() or f"ended with {result.returncode}").splitlines()[-1]
        print(f"  {' '.join(setting)}: {last}", file=sys.stderr)
        return None
    return json.loads(result.stdout.strip().splitlines()[-1])["tokens_per_s"]


def measure(args, row, what, script, settings):
    """One line of the table."""
    choices = [(setting, None) for setting in settings]
    if args.preload:
        choices += [(setting, args.preload) for setting in settings]
    our_rates, shares, their_rates = {}, {}, {}
    for round_idx in range(args.rounds):
        load = os.getloadavg()[0]
        for name, (rate, share) in ours(args, what).items():
            our_rates.setdefault(name, []).append(rate)
            shares.setdefault(name, []).append(share)
        for at, (setting, preload) in enumerate(choices):
            if round_idx > 0 and at not in best_two(their_rates):
                continue
            rate = theirs(args, script, setting, preload)
            if rate is not None:
                their_rates.setdefault(at, []).append(rate)
        print(f"  {row}, round {round_idx + 1}: load {load:.1f}", file=sys.stderr)
    name = max(our_rates, key=lambda name: statistics.median(our_rates[name]))
    mine = statistics.median(our_rates[name])
    share = statistics.median(shares[name]) if shares[name][0] is not None else None
    at = best_two(their_rates)[0]
    peer = statistics.median(their_rates[at])
    setting = " ".join(choices[at][0]) + (f" {choices[at][1]}" if choices[at][1] else "")
    pairs = [a / b for a, b in zip(our_rates[name], their_rates[at])]
    spread = f"{min(pairs):.2f} – {max(pairs):.2f}"
    share = f"{share * 100:.0f} %" if share is not None else "–"
    ours_text = ", ".join(f"{n} {statistics.median(r):.0f}" for n, r in our_rates.items())
    return [row, f"{mine:.0f}", share, f"{peer:.0f}", f"{mine / peer:.2f}", spread, ours_text, setting]


def best_two(rates):
    """Places of the two best settings so far."""
    return sorted(rates, key=lambda at: -statistics.median(rates[at]))[:2]


def main():
    args = arguments()
    table = [["work", "fathom tok/s", "of f32 peak", "peer tok/s", "ratio", "per round", "fathom's", "peer's best"]]
    for row, what, script, settings in ROWS:
        if args.only is None or args.only in row:
            table.append(measure(args, row, what, script, settings))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    main()
