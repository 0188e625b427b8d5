"""Writes what the `tokenizers` library makes of strings that stress it.

usage: tokenizer.py OUT_DIRECTORY TEXT_FILE SMOLLM2_BUNDLE

`tokenizer/tokenizer.json` is a small byte-level BPE trained on the text. `tokenizer/strings.json` is a
list of `{text, tiny, smollm2}` objects: the ids by that tokenizer and by SmolLM2's, without special
tokens added around them; those that are written in the text become single ids. Decoding the ids
with special tokens kept gives each text again, which is checked here.
"""

import json
import pathlib
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

STRINGS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "  leading and trailing spaces  ",
    "tabs\tand\nlines\r\nand\rreturns\n\n\n",
    "many          spaces   of  several lengths",
    "don't can't we'll I'm they're he'd SHE'S",
    "numbers 0 1 12 123 1234 12345 3.14159 1,000,000 0x7f 1e-9",
    "snake_case camelCase kebab-case CONSTANT_CASE",
    "fn main() { println!(\"{}\", 1 << 3); } // comment",
    "https://example.org/a?b=c&d=%20#e",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "いろはにほへと ちりぬるを 漢字とカタカナ",
    "天地玄黃宇宙洪荒",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "e\u0301 and \u00e9: the same to the eye, two spellings",
    "ﬁ ligature, Ⅳ roman, ½ half, ² squared, ﷺ one character of many",
    "😀 😃 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭",
    "\u200bzero\u200dwidth\u200c and \ufeff a mark of byte order",
    "\u202eright to left override\u202c",
    "Z̴̡͙a̷l̵g̸o̶ t̸e̵x̷t̴",
    "\u00a0no-break\u2003em\u3000ideographic\u2028line\u2029paragraph",
    "\u0000\u0001\u001b[31mcontrol\u007f",
    "\U0001d54f𝒜 astral \U0010ffff and the last \uffff",
    "“quotes” ‘single’ «guillemets» – — … •",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β)",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>between<|endoftext|>",
    "<|im_start and im_end|> that are no special tokens <|",
    "a" * 200,
    "ab" * 64 + " " * 64 + "\n" * 16,
]


def trained(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def main(out, text_file, bundle):
    out = pathlib.Path(out) / "tokenizer"
    out.mkdir(exist_ok=True)
    tiny = trained(pathlib.Path(text_file).read_text(encoding="utf-8"))
    tiny.save(str(out / "tokenizer.json"))
    smollm2 = Tokenizer.from_file(str(pathlib.Path(bundle) / "tokenizer.json"))
    entries = []
    for text in STRINGS:
        entry = {"text": text}
        for name, tokenizer in {"tiny": tiny, "smollm2": smollm2}.items():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text, (name, text)
            entry[name] = ids
        entries.append(json.dumps(entry))
    (out / "strings.json").write_text("[\n" + ",\n".join(entries) + "\n]\n")
    print(f"{len(entries)} strings")


if __name__ == "__main__":
    main(*sys.argv[1:])
