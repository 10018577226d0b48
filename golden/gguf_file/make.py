"""Writes the GGUF files of this folder with the PyPI package `gguf` (0.19.0; numpy 2.4.6).

    DIR/bin/pip install gguf==0.19.0
    DIR/bin/python golden/gguf_file/make.py

The tests repeat the values below and read the files back.
"""

import os

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, quants

HERE = os.path.dirname(os.path.abspath(__file__))


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def every_value():
    """One key of every type, tensors of several formats, an alignment of 64."""
    w = GGUFWriter(os.path.join(HERE, "every_value.gguf"), "golden")
    w.add_custom_alignment(64)
    w.add_uint8("a.u8", 200)
    w.add_int8("a.i8", -100)
    w.add_uint16("a.u16", 60000)
    w.add_int16("a.i16", -30000)
    w.add_uint32("a.u32", 4000000000)
    w.add_int32("a.i32", -2000000000)
    w.add_uint64("a.u64", 18000000000000000000)
    w.add_int64("a.i64", -9000000000000000000)
    w.add_float32("a.f32", 1e-6)
    w.add_float64("a.f64", 1e-300)
    w.add_bool("a.true", True)
    w.add_bool("a.false", False)
    w.add_string("a.text", "Grüße 深度")
    w.add_array("a.texts", ["", "Ġthe", "<｜end▁of▁sentence｜>"])
    w.add_array("a.ints", [1, -2, 3])
    w.add_array("a.floats", [0.5, -1.25])
    w.add_array("a.bools", [True, False, True])
    w.add_key_value("a.bytes", bytes([1, 2, 255]), GGUFValueType.ARRAY, GGUFValueType.UINT8)
    w.add_array("a.nested", [[1, 2], [3]])
    grid = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
    w.add_tensor("grid.f32", grid)
    w.add_tensor("grid.f16", grid.astype(np.float16))
    rows = np.sin(np.arange(128, dtype=np.float32)).reshape(2, 64)
    for name in ("Q8_0", "Q4_0", "BF16"):
        kind = GGMLQuantizationType[name]
        w.add_tensor(f"rows.{name.lower()}", quants.quantize(rows, kind), raw_dtype=kind)
    w.add_tensor("cube.f32", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    w.add_tensor("count.i32", np.array([7, 8, 9], dtype=np.int32))
    finish(w)


def split():
    """Three tensors in two files."""
    w = GGUFWriter(os.path.join(HERE, "parts.gguf"), "golden", split_max_tensors=2)
    w.add_uint32("golden.block_count", 1)
    for i in range(3):
        w.add_tensor(f"blk.{i}", np.full((2, 3), i, dtype=np.float32))
    finish(w)


every_value()
split()
