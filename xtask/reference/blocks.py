"""Random blocks of each quantised type, and the values that the package `gguf` gives for them.

usage: blocks.py OUT_DIRECTORY
"""

import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

BLOCKS = 8

# Where the half-precision scales stand in a block: they are chosen finite, the rest at random.
SCALES = {
    T.F16: [0], T.BF16: [],
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ4_NL: [0], T.IQ4_XS: [0], T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [],
}


def blocks_of(kind, random):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = BLOCKS if elements > 1 else 64
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        bits = random.integers(0, 0x7C00, count, dtype=np.uint16)
        bits |= random.integers(0, 2, count, dtype=np.uint16) << 15
        # The first blocks have the scales that are easily got wrong: subnormal, zero, the largest.
        bits[:4] = [0x0001, 0x83FF, 0x8000, 0x7BFF]
        blocks[:, at : at + 2] = bits.view(np.uint8).reshape(count, 2)
    if kind == T.BF16:
        blocks[:, 1] &= 0xBF
    if kind == T.MXFP4:
        blocks[:4, 0] = [0, 1, 2, 250]
    return blocks


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    for kind in SCALES:
        random = np.random.default_rng(kind.value)
        blocks = blocks_of(kind, random)
        values = gguf.dequantize(blocks, kind)
        assert values.dtype == np.float32 and not np.isnan(values).any(), kind.name
        (out / f"{kind.name}.blocks").write_bytes(blocks.tobytes())
        (out / f"{kind.name}.f32").write_bytes(values.astype("<f4").tobytes())


main(Path(sys.argv[1]))
