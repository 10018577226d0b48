"""Rate of transformers' `generate` on the small V3 model, beside `fathom bench rollout`.

    python generate_batch.py --threads 2 --dtype f32 --experts grouped_mm

64 random prompts of 64 tokens are continued by 128 tokens each, greedily or by sampling at
temperature 1 (`--sample`). No token ends an answer. Prints one JSON object; `tokens_per_s` counts new
tokens over the whole call, prefill included, and is the median over the repeats.
"""

import argparse
import json
import statistics
import time

from train_step import V3_16M, restart_with_environment


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--malloc", choices=["tuned", "stock"], default="tuned")
    parser.add_argument("--preload", metavar="LIBRARY", help="allocator to load with LD_PRELOAD")
    parser.add_argument(
        "--experts", choices=["grouped_mm", "batched_mm", "eager"], default="grouped_mm"
    )
    parser.add_argument("--cache", choices=["dynamic", "static"], default="dynamic")
    parser.add_argument("--sample", action="store_true", help="temperature 1 instead of greedy")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--new", type=int, default=128, metavar="TOKENS")
    parser.add_argument("--repeats", type=int, default=2)
    return parser.parse_args()


def main():
    args = arguments()
    restart_with_environment(args)
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, GenerationConfig

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    config = DeepseekV3Config(**V3_16M)
    config._experts_implementation = args.experts
    model = DeepseekV3ForCausalLM(config).eval()
    model.config._experts_implementation = args.experts
    if args.dtype == "bf16":
        model = model.to(torch.bfloat16)
    settings = GenerationConfig(
        max_new_tokens=args.new,
        min_new_tokens=args.new,
        do_sample=args.sample,
        top_k=0,
        pad_token_id=0,
        cache_implementation="static" if args.cache == "static" else None,
    )
    ids = torch.randint(config.vocab_size, (args.batch, args.prompt))
    mask = torch.ones_like(ids)

    rates = []
    for step in range(args.repeats + 1):  # the first is a warm-up
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, generation_config=settings)
        seconds = time.perf_counter() - start
        assert out.shape == (args.batch, args.prompt + args.new), out.shape
        if step > 0:
            rates.append(args.batch * args.new / seconds)
    rates.sort()
    print(
        json.dumps(
            {
                "program": f"torch {torch.__version__}",
                "dtype": args.dtype,
                "threads": args.threads,
                "malloc": args.preload or args.malloc,
                "experts": args.experts,
                "cache": args.cache,
                "sample": args.sample,
                "batch": args.batch,
                "prompt_tokens": args.prompt,
                "new_tokens": args.new,
                "tokens_per_s": round(statistics.median(rates), 1),
                "tokens_per_s_min": round(rates[0], 1),
                "tokens_per_s_max": round(rates[-1], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
