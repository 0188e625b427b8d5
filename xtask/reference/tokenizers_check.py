"""Loads each rebuilt `tokenizer.json` with the library that it is for, compares what texts become
with the references' ids, and writes down the digests of the files that passed.

usage: tokenizers_check.py FIXTURES REBUILT
"""

import hashlib
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

fixtures, rebuilt = Path(sys.argv[1]), Path(sys.argv[2])
passed = {}
failed = 0
for model, texts in json.loads((fixtures / "tokens.json").read_text()).items():
    data = (rebuilt / f"{model}.tokenizer.json").read_bytes()
    tokenizer = Tokenizer.from_str(data.decode())
    for text, ids in texts.items():
        found = tokenizer.encode(text, add_special_tokens=False).ids
        back = tokenizer.decode(found, skip_special_tokens=False)
        if found != ids:
            failed += 1
            print(f"{model}: {text!r} becomes {found}, not {ids}")
        # Composed Unicode, and the character that stands for a space, do not come back.
        elif back != text and "\u0301" not in text and "\u2581" not in text:
            failed += 1
            print(f"{model}: {text!r} comes back as {back!r}")
    passed[model] = hashlib.sha3_512(data).hexdigest()
if failed:
    sys.exit(f"{failed} texts differ")
(fixtures / "tokenizers.json").write_text(json.dumps(passed, indent=1) + "\n")
