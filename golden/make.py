"""Writes the golden files beside this script: tiny random checkpoints with the logits to expect.

    DIR/bin/python golden/make.py                 # DIR: see bench/peers/setup.sh
    DIR/bin/python golden/make.py --check FOLDER  # recompute another folder's values and compare

Weights are drawn here, tensor by tensor, from a seed; Hugging Face transformers then opens the
checkpoint as it would any other and says what the logits are. What is kept must stand firm: a
relative change of 1e-6 in every weight may not move a logit by 1e-3 (it would if a routing decision
were close), and no greedy step may be closer than 5e-3. See README.md for the format.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from safetensors.torch import load_file

import objectives

HERE = Path(__file__).resolve().parent
N_GREEDY = 16

SHARED = {
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "max_position_embeddings": 640,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
}

# Heads, ranks and widths differ wherever they may, so that no two can be mistaken for each other.
MLA_MOE = SHARED | {
    "attention_bias": False,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "intermediate_size": 44,
    "kv_lora_rank": 12,
    "moe_intermediate_size": 8,
    "moe_layer_freq": 1,
    "n_group": 4,
    "n_routed_experts": 8,
    "num_attention_heads": 4,
    "num_experts_per_tok": 3,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 16,
    "rope_theta": 10000.0,
    "topk_group": 2,
    "v_head_dim": 14,
}


def yarn(mscale):
    return {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 16,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }


V3 = MLA_MOE | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_hidden_layers": 2,
    "num_nextn_predict_layers": 1,
    "rope_scaling": yarn(1.0),
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "vocab_size": 68,
}

# Folder -> (seed, config.json).
CHECKPOINTS = {
    "llama_gqa": (
        11,
        SHARED
        | {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "head_dim": 12,
            "intermediate_size": 52,
            "model_type": "llama",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
            "rope_theta": 500000.0,
            "vocab_size": 64,
        },
    ),
    "qwen2_tied": (
        12,
        SHARED
        | {
            "architectures": ["Qwen2ForCausalLM"],
            "intermediate_size": 60,
            "max_window_layers": 2,
            "model_type": "qwen2",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "rope_theta": 10000.0,
            "sliding_window": 8,  # and not used: attention is full
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "vocab_size": 72,
        },
    ),
    "deepseek_v2": (
        13,
        MLA_MOE
        | {
            "architectures": ["DeepseekV2ForCausalLM"],
            "model_type": "deepseek_v2",
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "num_hidden_layers": 3,
            "rope_scaling": yarn(0.707),
            "routed_scaling_factor": 16.0,
            "scoring_func": "softmax",
            "topk_method": "group_limited_greedy",
            "vocab_size": 66,
        },
    ),
    "deepseek_v3": (14, V3),
    # As small models are trained here: one group, no query rank, no scaling of positions, no MTP.
    "deepseek_v3_plain": (
        15,
        V3
        | {
            "n_group": 1,
            "num_nextn_predict_layers": 0,
            "q_lora_rank": None,
            "rope_scaling": None,
            "routed_scaling_factor": 1.5,
            "topk_group": 1,
            "vocab_size": 64,
        },
    ),
}


def tensor_shapes(config, folder):
    """Names and shapes of the checkpoint, as transformers itself would write them."""
    (folder / "config.json").write_text(json.dumps(config))
    parsed = transformers.AutoConfig.from_pretrained(folder)
    transformers.AutoModelForCausalLM.from_config(parsed).save_pretrained(folder / "saved")
    tensors = load_file(folder / "saved" / "model.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for module in range(config.get("num_nextn_predict_layers") or 0):
        shapes |= mtp_shapes(config, shapes, config["num_hidden_layers"] + module)
    return shapes


def mtp_shapes(config, shapes, layer):
    """The module is a decoder layer like the last one, and what joins it to the model."""
    d, last, here = config["hidden_size"], f"model.layers.{layer - 1}.", f"model.layers.{layer}."
    like_last = {
        name.replace(last, here): shape for name, shape in shapes.items() if name.startswith(last)
    }
    return like_last | {
        here + "enorm.weight": (d,),
        here + "hnorm.weight": (d,),
        here + "eh_proj.weight": (d, 2 * d),
        here + "shared_head.norm.weight": (d,),
        here + "embed_tokens.weight": (config["vocab_size"], d),
        here + "shared_head.head.weight": (config["vocab_size"], d),
    }


def draw(shapes, seed):
    """Weights large enough that every part of the model shows in the logits."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = rng.standard_normal(shape)
        if name.endswith("e_score_correction_bias"):
            values = 0.2 * values
        elif name.endswith("bias"):
            values = 0.5 * values
        elif len(shape) == 1:
            values = 1 + 0.3 * values
        elif "embed_tokens" not in name:
            values = values * (1.6 / np.sqrt(shape[1]))
        tensors[name] = values.astype(np.float32)
    for name in tensors:  # the module's own copies are copies
        if name.startswith("model.layers.") and name.endswith("embed_tokens.weight"):
            tensors[name] = tensors["model.embed_tokens.weight"]
        if name.endswith("shared_head.head.weight"):
            tensors[name] = tensors["lm_head.weight"]
    return tensors


def load_model(folder):
    # `eager`: the plain code. The grouped product for experts wants widths in multiples of 4.
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
    ).eval()


def load_mtp(model, tensors):
    """The first MTP module, from transformers' own parts; None if the checkpoint has none."""
    layer = model.config.num_hidden_layers
    prefix = f"model.layers.{layer}."
    if prefix + "eh_proj.weight" not in tensors:
        return None
    config = transformers.AutoConfig.from_pretrained(model.config._name_or_path)
    config.num_hidden_layers = layer + 1
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

    wide = {"decoder": v3.DeepseekV3DecoderLayer(config, layer).eval()}
    mine = {
        name[len(prefix) :]: torch.as_tensor(t).float()
        for name, t in tensors.items()
        if name.startswith(prefix)
    }
    state = {}
    for name, parameter in wide["decoder"].state_dict().items():
        if name in mine:
            state[name] = mine[name]
        elif name == "mlp.experts.gate_up_proj":  # transformers keeps the experts in one tensor
            parts = [
                torch.cat([mine[f"mlp.experts.{e}.{half}_proj.weight"] for half in ("gate", "up")])
                for e in range(parameter.shape[0])
            ]
            state[name] = torch.stack(parts)
        elif name == "mlp.experts.down_proj":
            parts = [mine[f"mlp.experts.{e}.down_proj.weight"] for e in range(parameter.shape[0])]
            state[name] = torch.stack(parts)
    wide["decoder"].load_state_dict(state)
    for norm in ("enorm", "hnorm", "shared_head.norm"):
        wide[norm] = v3.DeepseekV3RMSNorm(config.hidden_size, config.rms_norm_eps)
        wide[norm].weight.data = mine[norm + ".weight"]
    wide["eh_proj"] = mine["eh_proj.weight"]
    wide["head"] = mine["shared_head.head.weight"]
    return wide


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


@torch.no_grad()
def mtp_logits_of(model, mtp, ids, next_id):
    """Row i: from the hidden state at i and the embedding of the id at i+1; scores the id at i+2."""
    hidden = model.model(torch.tensor([ids]), use_cache=False).last_hidden_state
    embedded = model.get_input_embeddings()(torch.tensor([ids[1:] + [next_id]]))
    joined = torch.cat([mtp["enorm"](embedded), mtp["hnorm"](hidden)], -1) @ mtp["eh_proj"].T
    positions = torch.arange(len(ids))[None]
    mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)[None, None]
    output = mtp["decoder"](
        joined,
        attention_mask=mask,
        position_embeddings=model.model.rotary_emb(joined, positions),
        position_ids=positions,
    )
    output = output[0] if isinstance(output, tuple) else output
    return (mtp["shared_head.norm"](output) @ mtp["head"].T)[0]


def greedy(model, ids):
    """The next ids, and the smallest lead of a chosen id over the second best."""
    chosen, lead = [], float("inf")
    for _ in range(N_GREEDY):
        best = logits_of(model, ids + chosen)[-1].topk(2)
        chosen.append(best.indices[0].item())
        lead = min(lead, (best.values[0] - best.values[1]).item())
    return chosen, lead


def seven_digits(rows):
    return [[float(f"{x:.7g}") for x in row] for row in rows.tolist()]


def make_case(model, mtp, shaken, ids):
    logits = logits_of(model, ids)
    chosen, lead = greedy(model, ids)
    moved = (logits - logits_of(shaken, ids)).abs().max().item()
    if moved > 1e-3 or lead < 5e-3 or 1 in chosen:
        return None
    case = {"ids": ids, "logits": seven_digits(logits)}
    case |= {"greedy": chosen, "greedy_min_gap": round(lead, 6)}
    if mtp is not None:
        case["mtp_logits"] = seven_digits(mtp_logits_of(model, mtp, ids, chosen[0]))
    return case


def make_checkpoint(name, seed, config):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tensors = draw(tensor_shapes(config, Path(scratch)), seed)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        rng = np.random.default_rng(seed + 1000)
        nudged = {
            name: (t * (1 + 1e-6 * rng.standard_normal(t.shape))).astype(np.float32)
            for name, t in tensors.items()
        }
        (Path(scratch) / "config.json").write_text(json.dumps(config))
        save_file(nudged, Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        model, shaken = load_model(folder), load_model(scratch)
        mtp = load_mtp(model, tensors)
        cases = []
        for length in (6, 40, 1):
            case = None
            while case is None:  # until the case stands firm
                # 0 and 1 mark the start and the end of a text.
                ids = rng.integers(2, config["vocab_size"], length).tolist()
                case = make_case(model, mtp, shaken, ids)
            cases.append(case)
    source = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    golden = {"source": source + ", float32, eager", "dtype": "float32", "cases": cases}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def distance(found, expected):
    return (found - torch.tensor(expected)).abs().max().item()


def check_checkpoint(folder):
    """Prints the largest difference between the expected numbers of `folder` and what we compute."""
    model = load_model(folder)
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(path)
    mtp = load_mtp(model, tensors)
    worst, worst_mtp, same = 0.0, 0.0, True
    for case in json.loads((folder / "golden.json").read_text())["cases"]:
        ids = case["ids"]
        worst = max(worst, distance(logits_of(model, ids), case["logits"]))
        same = same and greedy(model, ids)[0] == case["greedy"]
        if "mtp_logits" in case:
            found = mtp_logits_of(model, mtp, ids, case["greedy"][0])
            worst_mtp = max(worst_mtp, distance(found, case["mtp_logits"]))
    ids_are = "same" if same else "DIFFERS"
    print(f"{folder.name}: logits {worst:.1e}, mtp {worst_mtp:.1e}, greedy {ids_are}")


def difference(found, expected):
    """Largest difference of two nested values, relative above 1 and absolute below."""
    if isinstance(expected, dict):
        shared = [key for key in expected if key in found]  # a case holds its inputs too
        return max((difference(found[key], expected[key]) for key in shared), default=0)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        return max((difference(f, e) for f, e in zip(found, expected)), default=0)
    return abs(found - expected) / max(1, abs(expected))


def check(folder):
    for path in sorted(folder.glob("*/golden.json")):
        try:
            check_checkpoint(path.parent)
        except Exception as error:  # quantised, with images, or an architecture transformers lacks
            print(f"{path.parent.name}: not checked: {str(error).splitlines()[0][:90]}")
    for key, cases in json.loads((folder / "objectives.json").read_text()).items():
        if key in objectives.RESULTS:
            worst = max(difference(objectives.plain(objectives.RESULTS[key](c)), c) for c in cases)
            print(f"objectives {key}: {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if args.check:
        check(args.check)
        return
    for name, (seed, config) in CHECKPOINTS.items():
        make_checkpoint(name, seed, config)
        print("made", name)
    lines = [
        f"{json.dumps(key)}:{json.dumps(cases, separators=(',', ':'))}"
        for key, cases in objectives.make(seed=16).items()
    ]
    (HERE / "objectives.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
