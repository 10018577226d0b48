"""Opens a checkpoint that Fathom wrote in Hugging Face transformers, unchanged, and uses it.

    python open_in_transformers.py CHECKPOINT [--prompt TEXT] [--ids 5,17,3] [--ours logits.json]

Loads model and tokenizer with the Auto classes, applies the chat template, generates greedily, and
computes the logits of the given ids. `--ours` takes the output of `fathom logits CHECKPOINT --ids …
--json` and prints the largest difference to it (with its ids, if --ids is left out); the exit status is
1 if it exceeds --tolerance. Prints one JSON object, logits last; messages go to stderr.
"""

import argparse
import json
import sys

import torch
import transformers


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--prompt", default="What is 348 + 275?")
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--ids", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--ours", metavar="FILE", help="`fathom logits --json` of the same checkpoint")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--no-logits", action="store_true", help="leave the logits out of the output")
    return parser.parse_args()


def answer(model, tokenizer, prompt, max_tokens):
    """What the model says to `prompt` as the only message of a chat."""
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    n_prompt = ids["input_ids"].shape[1]
    output = model.generate(**ids, max_new_tokens=max_tokens, do_sample=False)[0]
    return {
        "prompt_text": text,
        "prompt_ids": output[:n_prompt].tolist(),
        "answer_ids": output[n_prompt:].tolist(),
        "answer": tokenizer.decode(output[n_prompt:], skip_special_tokens=False),
    }


def main():
    args = arguments()
    transformers.utils.logging.disable_progress_bar()
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        args.checkpoint,
        dtype=getattr(torch, args.dtype),
        # Plain code for the experts: the grouped product wants widths in multiples of 16 bytes.
        experts_implementation="eager",
        output_loading_info=True,
    )
    model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.checkpoint)
    report = {
        "class": type(model).__name__,
        "tokenizer": type(tokenizer).__name__,
        "transformers": transformers.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(loading["unexpected_keys"]),
    }
    if tokenizer.chat_template:
        report |= answer(model, tokenizer, args.prompt, args.max_tokens)
    else:
        print("the tokenizer has no chat template: nothing generated", file=sys.stderr)

    ours = json.load(open(args.ours)) if args.ours else None
    ids = args.ids or (ours and ours["ids"]) or report.get("prompt_ids") or tokenizer(args.prompt)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    report["ids"] = ids
    if ours:
        if ours["ids"] != ids:
            sys.exit(f"--ours is for ids {ours['ids']}, not {ids}")
        difference = (logits - torch.tensor(ours["logits"])).abs().max().item()
        report["max_abs_difference"] = difference
        report["within_tolerance"] = difference <= args.tolerance
    if not args.no_logits:
        report["logits"] = [[float(f"{x:.7g}") for x in row] for row in logits.tolist()]
    print(json.dumps(report, ensure_ascii=False))
    return 0 if report.get("within_tolerance", True) and not report["missing"] else 1


if __name__ == "__main__":
    sys.exit(main())
