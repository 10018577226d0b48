"""Writes the golden files beside this script: texts, and the ids that Hugging Face `tokenizers` gives them.

    DIR/bin/python golden/tokenizer/make.py VOCABULARIES    # DIR: see bench/peers/setup.sh

Small vocabularies, one for each way of cutting text, are trained here on the texts themselves and
kept beside this script. VOCABULARIES is a folder with the real ones, which are too large to keep:
`deepseek-v4-tokenizer.json`, `ggml-vocab-deepseek-llm.gguf`, `ggml-vocab-deepseek-coder.gguf`, and
`ggml-vocab-deepseek-llm.gguf.inp`, the 47 texts that llama.cpp tests with; only ids are kept. The package splits with Oniguruma, an engine the program does not use.
"""

import json
import re
import sys
from pathlib import Path

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = Path(__file__).resolve().parent
FAMILIES = HERE.parent.parent / "crates/text/src/pretokenize/families.rs"

TEXTS = [
    "",
    " ",
    "   ",
    "\t\t \n \r\n\r\n  x  ",
    "Hello, world! It's 348 + 275 = 623. You'RE right, I'LL go; they'Ve left; we'd, I'm. 'ſ 'S",
    "Führer ÀÁõö÷øùúûüýþÿ ñandú Ærø Œuvre naïve café ŝŭ ẞ ſt ﬁ",
    "The quick brown fox jumps over the lazy dog.\nThe quick brown fox.\n\n\nAnother  paragraph,   spaced.",
    "小明有348个苹果，又买了275个。他一共有多少个苹果？答案是 \\boxed{623}。「引用」《书名》——破折号……",
    "ひらがなとカタカナ、漢字とー゛゜・ヽヾ。ﾊﾝｶｸ゠",
    "한국어 문장입니다. 안녕하세요, 세계!",
    "العربية: مرحبا بالعالم ١٢٣٤؟ עברית: שלום עולם. ไทย สวัสดีชาวโลก १२३ हिन्दी नमस्ते",
    "Ελληνικά Ἀρχή ὦ Ω Ω; русский язык, нещо на Български; ქართული ᲐᲑ; Հայերեն; ᎣᏏᏲ Ꭰꭰ",
    "កាន់តែពិសេសអាចខលចេញ မြန်မာ བོད་ཡིག አማርኛ தமிழ் తెలుగు",
    "Tiếng Việt: Cửa sổ, nghĩa là gì? Việt Nam; e\u0301 o\u0308 A\u030a \u1e9b\u0323 \u212b \u2126 \ufb03",
    "🚀 (normal) 😶‍🌫️ 👩‍👩‍👧‍👦 🇨🇳🇩🇪 👍🏽 ✅ ♥️ ⁉️ 🦙.cpp",
    "½ ⅓ Ⅷ ① ② ٣٤٥ ０１２ 〇 ² ³ x² H₂O 1,234,567.89 0x1F 1e-10 3.14159 12345678901234567890",
    "def f(x):\n    if x > 0:\n\t\treturn [i**2 for i in range(10)]  # comment\r\n\r\n    else: pass\n",
    "#include <stdio.h>\nint main(void) {\n    printf(\"%d\\n\", a->b[0]);\n    return 0;\n}\n",
    "fn main() { let x: Vec<u8> = vec![0u8; 16]; println!(\"{x:?}\"); } // ──▶ done",
    "SELECT * FROM users WHERE name LIKE '%O''Brien%' AND id>=10; -- ok",
    "{\"key\": [1, 2.5, true, null], \"nested\": {\"a\": \"\\u00e9\"}}",
    "$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$ ∑∏∂∇ ≤≥≠ ∈ℝ ℵ₀ 𝒳𝔸 ⊕ℏÅ",
    "https://example.com/path?query=a%20b&x=1#frag user@mail.example C:\\Windows\\System32",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!!!!??????......------======''''''``````\"\"\"\"((()))[[[]]]{{{}}}<<<>>>",
    "\u0000\u0001\u0007\u001b[31m\u007f\u0080\u009f\u00ad\ufeff\uffff\U0010ffff\ue000\u0378",
    "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u0085g\u000bh\u200bi\u200dj\u180ek",
    "  \n  \n\n \t \n   leading and trailing   \n ",
    "<think>\nLet me see.\n</think>\n\nThe answer. <|im_start|>user\nHi<|im_end|> <|EOT|><|end_of_text|>",
    "<｜begin▁of▁sentence｜><｜User｜>你好<｜Assistant｜>Hi<｜end▁of▁sentence｜>｜DSML｜ <｜tool▁sep｜",
    "x <mask> y<mask>z word words wordy  word.  [LEFT]  [RIGHT]   end",
    "mixed中文English混合123数字カタカナ한글русскийΕλληνικά",
    "snake_case camelCase PascalCase SCREAMING_SNAKE kebab-case dot.case __dunder__ _x 9lives",
    "\"Quotes\" ‘single’ “double” „low“ «guillemets» – — … ‟x ‐ ‑ • ′ ″ § ¶ © ® ™ € £ ¥ ¢",
    "Ａ Ｂ ｃ！：；＜＝＞？＠［］＾｀｛｜｝～ 　全角　空白。、",
    "𐐀𐐨 𐒰𐓘 𐲀𐳀 𑢠𑣀 𞤀𞤢 𝐀𝟎 Ⰰⰰ Ⲁⲁ ꙀꙁꜢ ᴀᵫ",
]

V3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def cased_letters() -> str:
    """The letters of the LLM family, as the program's table has them."""
    table = FAMILIES.read_text().split("const CASED_LETTERS")[1].split("];")[0]
    pairs = re.findall(r"\((0x[0-9a-f]+), (0x[0-9a-f]+)\)", table)
    return "".join(chr(int(a, 16)) + (f"-{chr(int(b, 16))}" if a != b else "") for a, b in pairs)


def sequence(*patterns: str, digits: bool = False):
    stages = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    stages += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    return pre_tokenizers.Sequence(stages + [pre_tokenizers.ByteLevel(False, use_regex=False)])


WIDE_CJK = "[一-龥ࠀ-一가-퟿]+"
PRE_TOKENIZERS = {
    "llm": sequence(
        "[\r\n]",
        f"\\s?[{cased_letters()}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        WIDE_CJK,
        digits=True,
    ),
    "coder": sequence("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", WIDE_CJK, digits=True),
    "v3": sequence(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", V3),
    "qwen2": sequence(QWEN2),
    "llama3": sequence(LLAMA3),
    "gpt2": pre_tokenizers.ByteLevel(False, use_regex=True),
    "odd": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[.,;]"), "merged_with_previous"),
            pre_tokenizers.Split("--", "merged_with_next"),
            pre_tokenizers.Split(Regex(r"[!?]"), "contiguous"),
            pre_tokenizers.Split("#", "removed"),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.ByteLevel(False, use_regex=True),
        ]
    ),
}


def trained(name: str) -> dict:
    """A small vocabulary that is cut as `name` says, as the JSON of its file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>"],
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens(
        [
            AddedToken("<think>", normalized=True),
            AddedToken("</think>", normalized=False),
            AddedToken("<mask>", lstrip=True, normalized=False),
            AddedToken("[RIGHT]", rstrip=True),
            AddedToken("[LEFT]", lstrip=True, rstrip=True),
            AddedToken("word", single_word=True),
            AddedToken("ü"),
            AddedToken("e\u0301"),
            AddedToken("<thi"),
        ]
    )
    file = json.loads(tokenizer.to_str())
    if name == "llama3":
        begin = file["model"]["vocab"]["<|begin_of_text|>"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
        )
        file = json.loads(tokenizer.to_str())
        # Some tokens of several merges lose the last one: only `ignore_merges` still finds them.
        file["model"]["ignore_merges"] = True
        file["model"]["merges"] = [m for i, m in enumerate(file["model"]["merges"]) if i % 7 != 5]
        kept, known = [], set(pre_tokenizers.ByteLevel.alphabet())
        for left, right in file["model"]["merges"]:
            if left in known and right in known:
                known.add(left + right)
                kept.append([left, right])
        file["model"]["merges"] = kept
    if name == "qwen2":  # the older way of writing merges
        file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    return file


def from_gguf(path: Path, name: str) -> Tokenizer:
    """The real vocabulary of a GGUF, cut as the family's `tokenizer.json` says."""
    fields = gguf.GGUFReader(path).fields
    tokens, types, merges = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges")
    )
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind == 1}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in list(zip(tokens, types))[len(vocab) :]:
        if not token.startswith("[PAD"):
            tokenizer.add_tokens([AddedToken(token, special=kind == 3, normalized=False)])
    return tokenizer


def ids(tokenizer: Tokenizer, texts: list[str] = TEXTS) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def rows(name: str, lists: list[list[int]]) -> str:
    lines = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in lists)
    return f"{json.dumps(name)}: [\n  {lines}\n]"


def main() -> None:
    real = Path(sys.argv[1])
    lists, vectors = {}, {}
    for name in PRE_TOKENIZERS:
        text = json.dumps(trained(name), ensure_ascii=False, separators=(",", ":"))
        (HERE / f"{name}.tokenizer.json").write_text(text + "\n")
        lists[name] = ids(Tokenizer.from_str(text))
    lists["deepseek-v4"] = ids(Tokenizer.from_file(str(real / "deepseek-v4-tokenizer.json")))
    texts = (real / "ggml-vocab-deepseek-llm.gguf.inp").read_text()
    texts = texts.split("\n__ggml_vocab_test__\n")  # the last one is empty
    assert len(texts) == 47
    for name in ("llm", "coder"):
        tokenizer = from_gguf(real / f"ggml-vocab-deepseek-{name}.gguf", name)
        lists[f"deepseek-{name}"] = ids(tokenizer)
        vectors[f"deepseek-{name}"] = ids(tokenizer, texts)
    parts = [
        f'"source": {json.dumps("tokenizers " + tokenizers.__version__)}',
        '"texts": [\n  ' + ",\n  ".join(map(json.dumps, TEXTS)) + "\n]",
        '"ids": {\n' + ",\n".join(rows(*entry) for entry in lists.items()) + "\n}",
        '"vectors": {\n' + ",\n".join(rows(*entry) for entry in vectors.items()) + "\n}",
    ]
    (HERE / "golden.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
