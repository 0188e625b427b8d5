"""The vocabularies of the small models, and what texts become by references that share nothing with
the library that reads `tokenizer.json`: SentencePiece, and byte-level BPE written out below.
"""

import io
import unicodedata

import gguf
import regex

TEXTS = [
    "",
    " ",
    "hello world",
    " hello  world ",
    "the quick brown fox jumps over the lazy dog",
    "The answer is 42, and 1234567 is larger.",
    "It's we'll they're I'VE",
    "tabs\tand\nlines\r\n\r\nand   runs of    spaces",
    "Grüße aus Köln, naïve café",
    "日本語の文章です。",
    "Привет, мир! Ёлка",
    "emoji 😀👩‍👩‍👧 and \u200b zero width",
    "e\u0301 decomposed",
    "def f(x):\n    return x ** 2  # comment",
    "<|im_start|>user\nhello<|im_end|>\n",
    "a<s>b</s>c",
    "0x1F600 3.14159 1,000,000",
    "\u2581 already there",
    "mixedCASE WordsAndNumbers123abc",
    "....,,,,!!!! ???? ----",
]

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "hello world, the answer is 42 and the world is larger than hello",
    "it's what they're saying: we'll see the lazy brown dog and the fox",
    "mixed words and numbers 123 and 1234567 and tabs and lines and runs of spaces",
    "def f(x): return x and the words of the world over and over",
]

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# The patterns as llama.cpp has them, applied one after another.
PATTERNS = {
    "smollm": [r"\p{N}", GPT2],
    "gpt-2": [GPT2],
    "qwen2": [
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    ],
    "llama-bpe": [
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    ],
}


def byte_characters():
    """The printable character that stands for each byte, as GPT-2 has them."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = {byte: chr(byte) for byte in own}
    for number, byte in enumerate(byte for byte in range(256) if byte not in characters):
        characters[byte] = chr(256 + number)
    return characters


BYTES = byte_characters()


def pieces(text, patterns):
    parts = [text]
    for pattern in patterns:
        cut = []
        for part in parts:
            end = 0
            for match in regex.finditer(pattern, part):
                cut += [part[end : match.start()], match.group()]
                end = match.end()
            cut.append(part[end:])
        parts = [part for part in cut if part]
    return parts


def merged(symbols, ranks):
    while len(symbols) > 1:
        pairs = list(zip(symbols, symbols[1:]))
        best = min(range(len(pairs)), key=lambda at: ranks.get(pairs[at], len(ranks)))
        if pairs[best] not in ranks:
            break
        symbols = symbols[:best] + ["".join(pairs[best])] + symbols[best + 2 :]
    return symbols


def bpe(text, tokens, merges, pre, special):
    """The ids of a text by byte-level BPE, with special tokens found first.

    Qwen's own tokenizer composes Unicode first, which llama.cpp does not.
    """
    if pre == "qwen2":
        text = unicodedata.normalize("NFC", text)
    ids = {token: number for number, token in enumerate(tokens)}
    ranks = {tuple(merge.split(" ")): number for number, merge in enumerate(merges)}
    parts = [text]
    if special:
        parts = regex.split("(" + "|".join(map(regex.escape, special)) + ")", text)
    out = []
    for part in parts:
        if part in special:
            out.append(ids[part])
            continue
        for piece in pieces(part, PATTERNS[pre]):
            symbols = [BYTES[byte] for byte in piece.encode()]
            word = "".join(symbols)
            whole = pre == "llama-bpe" and word in ids
            out += [ids[word]] if whole else [ids[s] for s in merged(symbols, ranks)]
    return out


def trained_bpe(pre):
    """A small vocabulary: all bytes, then the most common pairs of the corpus."""
    words = [[BYTES[b] for b in p.encode()] for t in CORPUS for p in pieces(t, PATTERNS[pre])]
    tokens = [BYTES[byte] for byte in range(256)]
    merges = []
    while len(merges) < 60:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        pair = max(sorted(counts), key=counts.get)
        merges.append(" ".join(pair))
        tokens.append("".join(pair))
        words = [merged(word, {pair: 0}) for word in words]
    return tokens, merges


def trained_sentencepiece(space_before):
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", vocab_size=320,
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        hard_vocab_limit=False, minloglevel=2, num_threads=1, add_dummy_prefix=space_before,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


# Which small model has which kind of tokenizer.
PRE = {"llama-tied": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def add(writer, model):
    """Gives a model its tokenizer; answers how many tokens there are, and the ids of TEXTS."""
    if model in PRE:
        tokens, merges = trained_bpe(PRE[model])
        types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(SPECIAL)
        tokens += SPECIAL
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE[model])
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_bos_token_id(len(tokens) - 2)
        writer.add_eos_token_id(len(tokens) - 1)
        writer.add_add_bos_token(False)
        ids = {text: bpe(text, tokens, merges, PRE[model], SPECIAL) for text in TEXTS}
    else:
        trained = trained_sentencepiece("gemma" not in model)
        count = trained.vocab_size()
        kinds = [
            gguf.TokenType.UNKNOWN if trained.is_unknown(i)
            else gguf.TokenType.CONTROL if trained.is_control(i)
            else gguf.TokenType.BYTE if trained.is_byte(i)
            else gguf.TokenType.NORMAL
            for i in range(count)
        ]
        tokens = [trained.id_to_piece(i) for i in range(count)]
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores([trained.get_score(i) for i in range(count)])
        writer.add_token_types(kinds)
        writer.add_unk_token_id(trained.unk_id())
        writer.add_bos_token_id(trained.bos_id())
        writer.add_eos_token_id(trained.eos_id())
        writer.add_add_bos_token(True)
        # Gemma's own vocabulary has no space put before texts.
        writer.add_add_space_prefix("gemma" not in model)
        # SentencePiece looks for no control tokens in a text.
        plain = [text for text in TEXTS if "<s>" not in text]
        ids = {text: trained.encode(text) for text in plain}
    writer.add_chat_template("{{ messages[0]['content'] }}")
    return len(tokens), ids
