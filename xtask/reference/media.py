"""Writes the fixtures of plugins/text, plugins/audio and plugins/image: small files, and what Python's
standard library and Pillow read in them.

    python3 xtask/reference/media.py plugins

Needs Pillow for the images alone. The same versions make the same files again.
"""

import csv
import io
import json
import math
import pathlib
import struct
import sys
import wave

from PIL import Image


def text(folder):
    rows = [
        ["id", "name", "note"],
        ["1", "Müller, Emma", 'said "hi"'],
        ["2", "", "two\r\nlines"],
        ["3", "日本語 😀", " spaces kept "],
    ]
    for name, dialect, encoding in [
        ("excel.csv", "excel", "utf-8-sig"),
        ("utf-16.tsv", "excel-tab", "utf-16"),
    ]:
        written = io.StringIO(newline="")
        csv.writer(written, dialect).writerows(rows)
        data = written.getvalue().encode(encoding)
        (folder / name).write_bytes(data)
        read = list(csv.reader(io.StringIO(data.decode(encoding), newline=""), dialect))
        assert read == rows
        expected = folder / (name.split(".")[0] + ".json")
        expected.write_text(json.dumps(read) + "\n")


def wave_at(at, channel):
    return 0.8 * math.sin(2 * math.pi * (at / 37 + channel / 4))


def samples(data, width):
    if width == 1:
        return [(byte - 128) / 128 for byte in data]
    full = 1 << (8 * width - 1)
    return [
        int.from_bytes(data[at : at + width], "little", signed=True) / full
        for at in range(0, len(data), width)
    ]


def audio(folder):
    for name, width, channels, rate, count in [
        ("u8", 1, 1, 8000, 200),
        ("s16", 2, 2, 11025, 300),
        ("s24", 3, 2, 44100, 200),
        ("s32", 4, 1, 16000, 200),
    ]:
        full = (1 << (8 * width - 1)) - 1
        data = bytearray()
        for at in range(count):
            for channel in range(channels):
                value = round(wave_at(at, channel) * full)
                data += (
                    bytes([value + 128])
                    if width == 1
                    else value.to_bytes(width, "little", signed=True)
                )
        path = folder / (name + ".wav")
        with wave.open(str(path), "wb") as written:
            written.setnchannels(channels)
            written.setsampwidth(width)
            written.setframerate(rate)
            written.writeframes(bytes(data))
        with wave.open(str(path), "rb") as read:
            frames = read.readframes(count)
        (folder / (name + ".pcm")).write_bytes(frames)
        values = samples(frames, width)
        mono = [sum(values[at : at + channels]) / channels for at in range(0, len(values), channels)]
        (folder / (name + ".mono-f32")).write_bytes(struct.pack(f"<{len(mono)}f", *mono))


def images(folder):
    width, height = 13, 9
    colour = Image.new("RGBA", (width, height))
    for y in range(height):
        for x in range(width):
            colour.putpixel((x, y), (x * 19, y * 28, (x * y * 7) % 256, 255 - (x + y) * 9))

    def png(name, image, read_as, **options):
        path = folder / (name + ".png")
        image.save(path, **options)
        with Image.open(path) as read:
            (folder / (name + ".raw")).write_bytes(read.convert(read_as).tobytes())

    png("rgba", colour, "RGBA")
    png("rgb", colour.convert("RGB"), "RGB")
    png("gray", colour.convert("L"), "L")
    png("gray-alpha", colour.convert("LA"), "RGBA")
    png("palette", colour.convert("RGB").quantize(16), "RGB")
    png("palette-alpha", colour.convert("RGB").quantize(16), "RGBA", transparency=3)
    png("one-bit", colour.convert("1"), "L")
    deep = Image.new("I;16", (width, height))
    for y in range(height):
        for x in range(width):
            deep.putpixel((x, y), x * 4999 + y * 37)
    deep.save(folder / "deep.png")
    with Image.open(folder / "deep.png") as read:
        values = struct.unpack(f"<{width * height}H", read.tobytes())
    (folder / "deep.raw").write_bytes(bytes(value >> 8 for value in values))

    smooth = Image.new("RGB", (40, 24))
    for y in range(24):
        for x in range(40):
            smooth.putpixel((x, y), (x * 6, y * 10, 255 - x * 3 - y * 2))
    for name, image, options in [
        ("baseline", smooth, {"subsampling": 0}),
        ("progressive", smooth, {"progressive": True, "subsampling": 0}),
        ("subsampled", smooth, {"subsampling": 2}),
        ("grayscale", smooth.convert("L"), {}),
    ]:
        path = folder / (name + ".jpg")
        image.save(path, quality=90, **options)
        with Image.open(path) as read:
            (folder / (name + ".raw")).write_bytes(read.tobytes())


def main(plugins):
    for plugin, make in [("text", text), ("audio", audio), ("image", images)]:
        folder = pathlib.Path(plugins) / plugin / "tests/fixtures"
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)


main(sys.argv[1])
