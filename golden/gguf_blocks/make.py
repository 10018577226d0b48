"""Blocks of the GGUF formats and what the `gguf` package makes of them.

Made with Python 3.11, numpy 2.4.6 and gguf 0.19.0 (PyPI); run `python make.py` to write
blocks.safetensors again. It holds, for each format,

  {format}.blocks  u8   valid blocks with random contents and scales from zero to infinity
  {format}.values  f32  their weights, by gguf.quants.dequantize

and, for formats whose rounding gguf.quants defines,

  input            f32  rows to quantize: normal, spiky, constant, zero, tiny, huge
  {format}.bytes   u8   their blocks, by gguf.quants.quantize
"""

import json
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

# format: (bytes of a block, weights of a block, byte offsets of its half-precision numbers)
FORMATS = {
    "F16": (2, 1, []),
    "BF16": (2, 1, []),
    "Q8_0": (34, 32, [0]),
    "Q4_0": (18, 32, [0]),
    "Q4_1": (20, 32, [0, 2]),
    "Q5_0": (22, 32, [0]),
    "Q5_1": (24, 32, [0, 2]),
    "Q2_K": (84, 256, [80, 82]),
    "Q3_K": (110, 256, [108]),
    "Q4_K": (144, 256, [0, 2]),
    "Q5_K": (176, 256, [0, 2]),
    "Q6_K": (210, 256, [208]),
    "IQ4_NL": (18, 32, [0]),
    "IQ4_XS": (136, 256, [0]),
}
ROUNDED = ["BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
# zero, its negative, smallest and largest subnormal, smallest normal, largest, infinity
SCALES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0x7C00]


def blocks_of(rng, name):
    n_bytes, n_weights, halves = FORMATS[name]
    n = {1: 512, 32: 24, 256: 10}[n_weights]
    blocks = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    for at in halves:
        scale = (rng.standard_normal(n) * 0.05).astype(np.float16).view(np.uint16)
        scale[: len(SCALES)] = rng.permutation(SCALES)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(n, 2)
    return blocks


def rows(rng):
    x = rng.standard_normal((40, 32)).astype(np.float32)
    x[8:12] *= np.exp(rng.standard_normal((4, 32)) * 2).astype(np.float32)
    x[12:16] = np.round(x[12:16] * 4) / 8  # many exact halves
    x[16] = 0
    x[17] = 0.75
    x[18] = -0.75
    x[19, 1:] = 0
    x[20:22] *= 1e-6  # scales of subnormal half precision
    x[22] *= 1e-9  # scales that vanish
    x[23:25] *= 3e4
    x[25:28] = np.abs(x[25:28])
    x[28:31] = -np.abs(x[28:31])
    x[31, ::2] = -x[31, 1::2]  # two largest of either sign
    return x


def save(path, tensors):
    """Writes safetensors: header length, JSON header, data end to end."""
    header, at = {}, 0
    for name, array in tensors.items():
        dtype = {"uint8": "U8", "float32": "F32"}[str(array.dtype)]
        span = [at, at + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": span}
        at = span[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main():
    rng = np.random.default_rng(20260101)
    tensors = {"input": rows(rng)}
    with np.errstate(all="ignore"):
        for name in FORMATS:
            blocks = blocks_of(rng, name)
            tensors[f"{name.lower()}.blocks"] = blocks
            values = quants.dequantize(blocks, Type[name])
            tensors[f"{name.lower()}.values"] = values.astype(np.float32)
        for name in ROUNDED:
            made = quants.quantize(tensors["input"], Type[name])
            tensors[f"{name.lower()}.bytes"] = made.view(np.uint8)
    save(pathlib.Path(__file__).parent / "blocks.safetensors", tensors)


main()
