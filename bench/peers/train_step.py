"""Training rate of PyTorch on the models of `fathom bench train`, measured the same way.

    python train_step.py --model 34m --dtype bf16-autocast --threads 2
    python train_step.py --model v3-16m --experts grouped_mm

`34m` and `0.87m` are a Llama-like decoder (RMSNorm, RoPE, causal SDPA, SwiGLU, untied head, no
biases) written here as tightly as PyTorch allows; `v3-16m` is DeepseekV3ForCausalLM of transformers,
whose expert loop `--experts` picks. One optimizer step per batch: forward, cross-entropy over every
position, backward, fused AdamW. Random ids: the work does not depend on them. Prints one JSON object;
`tokens_per_s` is the median over the timed steps.

PyTorch asks malloc for every activation anew. With glibc's defaults the large ones go back to the
kernel after use and come back as zeroed pages, which costs up to half of the time; `--malloc tuned`
(the default) keeps them. To try another allocator instead: --malloc stock --preload libjemalloc.so.2
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

MODELS = {
    "34m": dict(vocab=8192, d=512, layers=8, heads=8, ff=1408, batch=4, length=512),
    "0.87m": dict(vocab=256, d=128, layers=4, heads=4, ff=352, batch=32, length=128),
    "v3-16m": dict(vocab=4096, batch=8, length=256),
}

# The fields of config.json that `v3-16m` of `fathom bench` has.
V3_16M = dict(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=704,
    moe_intermediate_size=192,
    num_hidden_layers=6,
    first_k_dense_replace=1,
    num_attention_heads=4,
    num_key_value_heads=4,
    q_lora_rank=96,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    n_routed_experts=16,
    num_experts_per_tok=4,
    n_shared_experts=1,
    n_group=1,
    topk_group=1,
    routed_scaling_factor=2.5,
    norm_topk_prob=True,
    num_mtp_layers=0,
    max_position_embeddings=4096,
    bos_token_id=None,
    eos_token_id=None,
)

# glibc reads these when a process starts: never give memory back, never use mmap, one arena.
TUNED_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="34m")
    parser.add_argument("--dtype", choices=["f32", "bf16-autocast"], default="bf16-autocast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--malloc", choices=["tuned", "stock"], default="tuned")
    parser.add_argument("--preload", metavar="LIBRARY", help="allocator to load with LD_PRELOAD")
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs a C++ compiler)")
    parser.add_argument(
        "--experts", choices=["grouped_mm", "batched_mm", "eager"], default="grouped_mm"
    )
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--clip", type=float, default=0.0, help="global gradient norm; 0: no clipping")
    parser.add_argument("--warmup", type=int, default=2, metavar="STEPS")
    parser.add_argument("--repeats", type=int, default=8, metavar="STEPS")
    return parser.parse_args()


def restart_with_environment(args):
    """Starts this program anew if the allocator or the threads must be set before it runs."""
    wanted = {"OMP_NUM_THREADS": str(args.threads), "MKL_NUM_THREADS": str(args.threads)}
    if args.malloc == "tuned":
        wanted |= TUNED_MALLOC
    if args.preload:
        wanted["LD_PRELOAD"] = args.preload
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def build_v3(torch, experts, attention):
    """DeepseekV3ForCausalLM as a function of ids and targets that gives the loss."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(**V3_16M, attn_implementation=attention)
    config._experts_implementation = experts
    decoder = DeepseekV3ForCausalLM(config).train()
    decoder.config._experts_implementation = experts

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = decoder

        def forward(self, ids, targets):
            logits = self.decoder(input_ids=ids, use_cache=False).logits
            logits = logits.float().view(-1, config.vocab_size)
            return torch.nn.functional.cross_entropy(logits, targets.reshape(-1))

    return Decoder()


def build(torch, vocab, d, layers, heads, ff, length, **_):
    nn, F = torch.nn, torch.nn.functional
    head_dim = d // heads
    angles = torch.outer(
        torch.arange(length).float(), 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    )
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    def rope(x):  # [B, H, T, D], half-split pairs
        a, b = x.chunk(2, -1)
        return x * cos.to(x.dtype) + torch.cat([-b, a], -1) * sin.to(x.dtype)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_attention, self.norm_mlp = nn.RMSNorm(d, 1e-6), nn.RMSNorm(d, 1e-6)
            self.qkv, self.o = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
            self.gate_up = nn.Linear(d, 2 * ff, bias=False)
            self.down = nn.Linear(ff, d, bias=False)

        def forward(self, x):
            b, t, _ = x.shape
            qkv = self.qkv(self.norm_attention(x)).view(b, t, 3, heads, head_dim)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
            gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(vocab, d)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.norm, self.head = nn.RMSNorm(d, 1e-6), nn.Linear(d, vocab, bias=False)

        def forward(self, ids, targets):
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x)
            logits = self.head(self.norm(x))
            return F.cross_entropy(logits.float().view(-1, vocab), targets.reshape(-1))

    return Decoder()


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    args = arguments()
    restart_with_environment(args)
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    shape = MODELS[args.model]
    rss_after_import = peak_rss_bytes()

    if args.model == "v3-16m":
        model = build_v3(torch, args.experts, args.attention)
    else:
        model = build(torch, **shape)
    n_params = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), fused=True)
    loss_of = torch.compile(model) if args.compile else model
    n_tokens = shape["batch"] * shape["length"]
    autocast = args.dtype == "bf16-autocast"

    seconds, cpu_seconds, loss = [], [], None
    for step in range(args.warmup + args.repeats):
        ids = torch.randint(shape["vocab"], (shape["batch"], shape["length"] + 1))
        start, cpu_start = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        if args.clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= args.warmup:
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)

    rates = sorted(n_tokens / s for s in seconds)
    print(
        json.dumps(
            {
                "program": f"torch {torch.__version__}",
                "model": args.model,
                "parameters": n_params,
                "batch_tokens": n_tokens,
                "dtype": args.dtype,
                "threads": args.threads,
                "malloc": args.preload or args.malloc,
                "compile": args.compile,
                "experts": args.experts if args.model == "v3-16m" else None,
                "clip": args.clip,
                "repeats": args.repeats,
                "tokens_per_s": round(statistics.median(rates), 1),
                "tokens_per_s_min": round(rates[0], 1),
                "tokens_per_s_max": round(rates[-1], 1),
                "step_ms": round(1000 * statistics.median(seconds), 2),
                "cpu_ms": round(1000 * min(cpu_seconds), 2),
                "peak_rss_bytes": peak_rss_bytes(),
                "rss_after_import_bytes": rss_after_import,
                "loss": round(loss.item(), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
