"""Random hypervectors, and what torchhd makes of them in the MAP architecture.

usage: hypervectors.py OUT_DIRECTORY

A file for each number of dimensions, a value a line after its name. A bipolar vector is the
hexadecimal digits of one bit a dimension, least significant first, set for -1; a ternary one is that,
and as many bits more, set for what is not zero.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchhd

MEMBERS = 10
COUNTS = [1, 2, 3, 4, 7, 10]
THRESHOLDS = [1, 2, 4]
SHIFTS = [0, 1, -1, 37, 64, 100_003, -4_321]


def bits(flags):
    return np.packbits(flags.numpy(), bitorder="little").tobytes().hex()


def bipolar(vector):
    assert bool((vector.abs() == 1).all())
    return bits(vector < 0)


def ternary(vector):
    return bits(vector < 0) + bits(vector != 0)


def lines(dimensions):
    generator = torch.Generator().manual_seed(dimensions)
    members = torchhd.random(
        MEMBERS, dimensions, "MAP", dtype=torch.float64, generator=generator
    )
    yield f"torchhd {torchhd.__version__}"
    yield f"torch {torch.__version__.split('+')[0]}"
    yield f"dimensions {dimensions}"
    for member in members:
        yield f"member {bipolar(member)}"

    a, b = members[0], members[1]
    bound = torchhd.bind(a, b)
    assert torch.equal(torchhd.bind(bound, torchhd.inverse(b)), a)
    yield f"bind {bipolar(bound)}"
    for shift in SHIFTS:
        yield f"permute {shift} {bipolar(torchhd.permute(a, shifts=shift))}"
    for index, member in enumerate(members):
        similarity = torchhd.cosine_similarity(a, member, dtype=torch.float64)
        yield f"similarity {index} {similarity.item()!r}"

    for count in COUNTS:
        total = torchhd.multiset(members[:count])
        yield f"normalized {count} {bipolar(torchhd.normalize(total))}"
        yield f"bundle {count} {ternary(torch.sign(total))}"
        for threshold in THRESHOLDS:
            beyond = torch.where(total.abs() > threshold, torch.sign(total), 0.0)
            yield f"beyond {threshold} {count} {ternary(beyond)}"

    # Of four members each, so that zeros meet zeros, ones and what is bipolar.
    x = torch.sign(torchhd.multiset(members[:4]))
    y = torch.sign(torchhd.multiset(members[4:8]))
    for name, vector in [("x", x), ("y", y)]:
        yield f"{name} {ternary(vector)}"
    yield f"bind-ternary {ternary(torchhd.bind(x, y))}"
    yield f"bind-bipolar {ternary(torchhd.bind(x, b))}"
    yield f"unbind-ternary {ternary(torchhd.bind(torchhd.bind(x, y), torchhd.inverse(y)))}"
    yield f"bundle-ternary {ternary(torch.sign(torchhd.bundle(x, y)))}"
    yield f"permute-ternary {SHIFTS[3]} {ternary(torchhd.permute(x, shifts=SHIFTS[3]))}"
    for name, vector in [("ternary", y), ("bipolar", a)]:
        similarity = torchhd.cosine_similarity(x, vector, dtype=torch.float64)
        yield f"similarity-{name} {similarity.item()!r}"


def main():
    out = Path(sys.argv[1])
    for dimensions in [8, 200, 1_000, 2_056]:
        text = "\n".join(lines(dimensions)) + "\n"
        (out / f"{dimensions}.txt").write_text(text, encoding="ascii", newline="\n")


main()
