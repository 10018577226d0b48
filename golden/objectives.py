"""Reference values of losses, gradients, optimizer steps and schedules, in float64.

Each function takes a case that holds inputs and returns the expected results, so that `make.py` can
both write cases and recheck those of others. The formulas are written out here, as plainly as
possible and apart from the Rust code; gradients come from torch's autograd.
"""

import math

import numpy as np
import torch

RESULTS = {}  # key in objectives.json -> function(case) -> results


def objective(function):
    RESULTS[function.__name__] = function
    return function


def tensor(values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


@objective
def cross_entropy(case):
    """-log softmax at the target; the mean is over the positions whose mask is 1."""
    logits, mask = tensor(case["logits"], grad=True), tensor(case["mask"])
    picked = logits.log_softmax(-1)[range(len(mask)), case["targets"]]
    loss_sum = -(picked * mask).sum()
    loss_mean = loss_sum / mask.sum()
    loss_mean.backward()
    return {
        "target_logprobs": picked,
        "loss_sum": loss_sum,
        "loss_mean": loss_mean,
        "grad_logits_of_mean": logits.grad,
    }


@objective
def mtp_loss(case):
    """T + 1 ids; row i of the main logits predicts id i+1, row i of the MTP logits id i+2.

    DeepSeek-V3 (arXiv:2412.19437), equations 24 and 25: both sums are divided by T.
    """
    ids = case["ids"]
    main, mtp = tensor(case["main_logits"], grad=True), tensor(case["mtp_logits"], grad=True)
    n_tokens = len(ids) - 1
    main_loss = -main.log_softmax(-1)[range(n_tokens), ids[1:]].sum() / n_tokens
    extra_loss = -mtp.log_softmax(-1)[range(n_tokens - 1), ids[2:]].sum() / n_tokens
    loss = main_loss + case["lambda"] * extra_loss
    loss.backward()
    return {
        "main_loss": main_loss,
        "mtp_loss": extra_loss,
        "loss": loss,
        "grad_main_logits": main.grad,
        "grad_mtp_logits": mtp.grad,
    }


@objective
def grpo(case):
    """DeepSeekMath (arXiv:2402.03300), equation 3 with the k3 estimate of equation 4, and two variants.

    `sequence_mean` is the paper's: tokens of an output first, then all outputs. `token_mean` weighs all
    tokens alike. `dr_grpo` (arXiv:2503.20783) leaves out the deviation and divides by a fixed length.
    """
    results = {"kl": [], "sequence_mean": None, "token_mean": None, "dr_grpo": None}
    outside = []
    for variant in ["sequence_mean", "token_mean", "dr_grpo"]:
        advantages, policies, objectives = [], [], []
        for group in case["groups"]:
            rewards = np.array(group["rewards"])
            centred = rewards - rewards.mean()
            deviation = rewards.std(ddof=0 if case["std"] == "population" else 1)
            if variant != "dr_grpo":
                # A group of equal rewards teaches nothing; do not divide rounding by rounding.
                centred = centred / deviation if np.ptp(rewards) > 0 else np.zeros(len(rewards))
            advantages.append(centred.tolist())
            policies.append([tensor(output["policy"], grad=True) for output in group["outputs"]])
            objectives.append([])
            for output, policy, advantage in zip(group["outputs"], policies[-1], advantages[-1]):
                ratio = (policy - tensor(output["old"])).exp()
                clipped = ratio.clamp(1 - case["eps"], 1 + case["eps"])
                gap = tensor(output["reference"]) - policy
                kl = gap.exp() - gap - 1
                gain = torch.minimum(ratio * advantage, clipped * advantage)
                objectives[-1].append((gain - case["beta"] * kl, kl))
                outside.append((ratio - 1).abs() > case["eps"])
        flat = [gain for group in objectives for gain, _ in group]
        if variant == "sequence_mean":
            loss = -torch.stack([gain.mean() for gain in flat]).mean()
        elif variant == "token_mean":
            loss = -torch.cat(flat).mean()
        else:
            loss = -torch.cat(flat).sum() / (len(flat) * case["max_length"])
        loss.backward()
        grads = [[policy.grad for policy in group] for group in policies]
        results[variant] = {"loss": loss, "advantages": advantages, "grad_policy": grads}
        results["kl"] = [[kl for _, kl in group] for group in objectives]
    results["share_of_ratios_outside_clip"] = torch.cat(outside).double().mean()
    return results


@objective
def balance_sequence(case):
    """DeepSeek-V3, equations 17 to 20. The bias steers the routing, not this loss."""
    logits = tensor(case["gate_logits"], grad=True)
    n_tokens, n_experts = logits.shape
    scores = logits.sigmoid()
    chosen = scores.detach().topk(case["top_k"], dim=-1).indices
    counts = torch.zeros(n_experts, dtype=torch.float64)
    counts += torch.bincount(chosen.flatten(), minlength=n_experts)
    f = counts * n_experts / (case["top_k"] * n_tokens)
    p = (scores / scores.sum(-1, keepdim=True)).mean(0)
    loss = case["alpha"] * (f * p).sum()
    loss.backward()
    return {"f": f, "p": p, "loss": loss, "grad_gate_logits": logits.grad}


@objective
def bias_update(case):
    """DeepSeek-V3, section 2.1.2: less loaded than the mean, bias up by gamma; more loaded, down."""
    loads = np.array(case["loads"], dtype=np.float64)
    return {"new_bias": case["bias"] + case["gamma"] * np.sign(loads.mean() - loads)}


@objective
def lr_schedule(case):
    return {"points": [[at, learning_rate(case, at)] for at, *_ in case["points"]]}


def learning_rate(case, at):
    """`at` is a step, or for `warmup_stable_decay` the tokens seen since the warm-up."""

    def cosine(start, end, share):
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    peak = case["peak"]
    if case["kind"] == "warmup_stable_decay":
        at -= case["constant_tokens"]
        if at <= 0:
            return peak
        if at <= case["decay_tokens"]:
            return cosine(peak, case["after_decay"], at / case["decay_tokens"])
        stays = at <= case["decay_tokens"] + case["after_decay_tokens"]
        return case["after_decay"] if stays else case["last"]
    if at < case["warmup_steps"]:
        return peak * at / case["warmup_steps"]
    if case["kind"] == "multi_step":
        passed = sum(at >= share * case["total_steps"] for share in case["boundaries"])
        return peak * case["factors"][passed]
    share = (at - case["warmup_steps"]) / (case["total_steps"] - case["warmup_steps"])
    return cosine(peak, case["minimum"], min(share, 1.0))


@objective
def adamw(case):
    """Loshchilov and Hutter (arXiv:1711.05101), algorithm 2: decoupled decay, corrected moments."""
    params = np.array(case["params"], dtype=np.float64)
    first, second = np.zeros_like(params), np.zeros_like(params)
    results = {}
    for step, grads in enumerate(np.array(case["grads"]), start=1):
        first = case["beta1"] * first + (1 - case["beta1"]) * grads
        second = case["beta2"] * second + (1 - case["beta2"]) * grads**2
        update = (first / (1 - case["beta1"] ** step)) / (
            np.sqrt(second / (1 - case["beta2"] ** step)) + case["eps"]
        )
        params = params - case["lr"] * (update + case["weight_decay"] * params)
        results[f"after_{step}"] = {
            "params": params,
            "first_moment": first,
            "second_moment": second,
        }
    return results


@objective
def grad_clip(case):
    """One norm over all tensors; nothing changes unless it is above the limit."""
    norm = math.sqrt(sum(g * g for grads in case["grads"] for g in grads))
    scale = min(1.0, case["max_norm"] / norm)
    return {"norm": norm, "clipped": [[g * scale for g in grads] for grads in case["grads"]]}


@objective
def pass_at_k(case):
    """Chen et al. (arXiv:2107.03374), equation 1, without the product form."""
    n, c, k = case["n"], case["c"], case["k"]
    return {"value": 1 - math.comb(n - c, k) / math.comb(n, k)}


def plain(value):
    """Numbers and lists of them, floats with nine significant digits."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, torch.Tensor):
        return plain(value.detach().tolist())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def make(seed):
    """Cases with short random inputs and their results."""
    rng = np.random.default_rng(seed)

    def numbers(*shape, scale=1.0, centre=0.0, digits=4):
        return np.round(rng.normal(centre, scale, shape), digits).tolist()

    def output(length):
        policy = np.minimum(rng.normal(-1.2, 0.9, length), -0.001)
        near = [np.minimum(policy + rng.normal(0, 0.3, length), -0.001) for _ in range(2)]
        rows = [np.round(row, 4).tolist() for row in (policy, *near)]
        return dict(zip(["policy", "old", "reference"], rows))

    def group(rewards, lengths):
        return {"rewards": rewards, "outputs": [output(length) for length in lengths]}

    def grpo_case(eps, beta, std, groups):
        longest = max(len(o["policy"]) for g in groups for o in g["outputs"])
        limits = {"eps": eps, "beta": beta, "std": std, "max_length": longest + 1}
        return limits | {"groups": groups}

    inputs = {
        "cross_entropy": [
            {"logits": numbers(5, 7, scale=2.0), "targets": [3, 0, 6, 6, 1], "mask": [0, 1, 1, 0, 1]},
            {"logits": numbers(3, 4, scale=200.0), "targets": [1, 2, 0], "mask": [1, 1, 1]},
        ],
        "mtp_loss": [
            {
                "ids": [4, 1, 1, 3, 0],
                "main_logits": numbers(4, 5, scale=2.0),
                "mtp_logits": numbers(3, 5, scale=2.0),
                "lambda": 0.25,
            }
        ],
        "grpo": [
            grpo_case(
                0.2,
                0.03,
                "population",
                [group([1.0, 0.0, 0.0, 1.0, 1.0], [3, 1, 5, 4, 2]), group([0.0] * 3, [2, 4, 3])],
            ),
            grpo_case(0.1, 0.0, "sample", [group([1.5, -0.25, 0.5], [4, 2, 6])]),
        ],
        "balance_sequence": [
            {
                "gate_logits": numbers(6, 8, scale=1.5),
                "top_k": 3,
                "alpha": 0.02,
                "selection_bias": numbers(8, scale=0.3),
            }
        ],
        "bias_update": [
            {"loads": [12, 3, 7, 9, 9, 8], "bias": numbers(6, scale=0.05), "gamma": 0.005},
            {"loads": [5, 5, 5], "bias": [0.1, 0.0, -0.1], "gamma": 0.001},
        ],
        "lr_schedule": [
            {
                "kind": "multi_step",
                "peak": 0.002,
                "warmup_steps": 50,
                "total_steps": 1000,
                "boundaries": [0.6, 0.85],
                "factors": [1.0, 0.3, 0.05],
                "points": [[step] for step in (0, 1, 49, 50, 599, 601, 849, 851, 999)],
            },
            {
                "kind": "cosine",
                "peak": 0.001,
                "minimum": 0.0001,
                "warmup_steps": 20,
                "total_steps": 220,
                "points": [[step] for step in (0, 7, 20, 21, 70, 120, 219, 220, 300)],
            },
            {
                "kind": "warmup_stable_decay",
                "peak": 0.0006,
                "after_decay": 0.00006,
                "last": 0.00002,
                "constant_tokens": 800000,
                "decay_tokens": 300000,
                "after_decay_tokens": 50000,
                "last_tokens": 25000,
                "points": [[n] for n in (0, 799000, 860000, 950000, 1090000, 1120000, 1160000)],
            },
        ],
        "adamw": [
            {
                "lr": 0.003,
                "beta1": 0.9,
                "beta2": 0.95,
                "eps": 1e-8,
                "weight_decay": decay,
                "params": numbers(4),
                "grads": numbers(3, 4, scale=0.4),
            }
            for decay in (0.1, 0.0)
        ],
        "grad_clip": [
            {"max_norm": 1.0, "grads": [numbers(4), numbers(3)]},
            {"max_norm": 5.0, "grads": [numbers(2, scale=0.3), numbers(3, scale=0.3)]},
        ],
        "pass_at_k": [
            {"n": n, "c": c, "k": k}
            for n, c, k in [(8, 2, 1), (8, 2, 4), (16, 0, 8), (4, 4, 2), (6, 5, 3)]
        ],
    }
    return {
        key: [plain(case | RESULTS[key](case)) for case in cases] for key, cases in inputs.items()
    }
