"""Our reader and writer of safetensors beside the format's own package (PyPI safetensors): safetensors_peer.py ECHO FOLDER

What the package writes, ours reads; what ours writes, the package reads; and of damaged files both say the same.
"""

import json
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.int64, np.uint8]


def random_file(rng):
    tensors = {}
    for _ in range(rng.randrange(5)):
        name = "".join(rng.choice("abcdef.\u00e9\u4e2d\U0001f642\"\\ \n") for _ in range(rng.randrange(1, 12)))
        shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(5))]
        dtype = np.dtype(rng.choice(TYPES))
        tensors[name] = np.frombuffer(rng.randbytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    return save(tensors, rng.choice([None, {"made by": "\u00e9\n"}]))


def damaged(rng, file):
    """A byte of it changed, taken away or added; or a number of its header changed."""
    file = bytearray(file)
    kind = rng.randrange(4)
    at = rng.randrange(len(file))
    if kind == 0:
        file[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del file[at:at + rng.randrange(1, 5)]
    elif kind == 2:
        file[at:at] = rng.choice([b"0", b"1", b" ", b",", b"[", b"}", b"\xff", rng.randbytes(3)])
    else:
        digits = [i for i in range(8, len(file)) if chr(file[i]).isdigit()]
        if digits:
            file[rng.choice(digits)] = ord(rng.choice("0123456789"))
    if rng.random() < 0.7 and kind in (1, 2):  # the length of the header fits again
        end = file.rfind(b"}")
        if end >= 8:
            file[:8] = struct.pack("<Q", end + 1 - 8)
    return bytes(file)


def verdict(file):
    """The tensors and metadata, or None if the package refuses the file."""
    try:
        tensors = {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in deserialize(file)}
    except (SafetensorError, ValueError):  # a name that is no text
        return None
    header = json.loads(file[8:8 + struct.unpack("<Q", file[:8])[0]])
    return tensors, header.get("__metadata__") or {}


def stricter(reason):
    """What ours refuses and the package takes: it keeps the last of two values, and knows types that we do not."""
    return any(text in reason for text in ("twice", "is not known", "that the format does not know", "__metadata__ is null"))


def main():
    echo, folder = sys.argv[1], Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = random.Random(1)
    files = [random_file(rng) for _ in range(300)]
    files += [damaged(rng, rng.choice(files)) for _ in range(1500)]
    for i, file in enumerate(files):
        (folder / f"{i}.in").write_bytes(file)
    subprocess.run([echo, folder], check=True)
    accepted = refused = stricter_files = 0
    for i, file in enumerate(files):
        theirs = verdict(file)
        written = folder / f"{i}.out"
        if written.exists():
            if theirs is None:
                sys.exit(f"{folder}/{i}.in is taken by ours and refused by the package")
            if verdict(written.read_bytes()) != theirs:
                sys.exit(f"{folder}/{i}.out holds other tensors than {i}.in")
            accepted += 1
        else:
            reason = (folder / f"{i}.refused").read_text()
            if theirs is not None and not stricter(reason):
                sys.exit(f"{folder}/{i}.in is taken by the package and refused by ours: {reason}")
            stricter_files += theirs is not None
            refused += 1
    print(f"{accepted} files read alike, {refused} refused, {stricter_files} of them by ours alone")
    if accepted < 400 or refused < 800 or stricter_files > 20:
        sys.exit("the files did not test what they are there for")
    shutil.rmtree(folder)
    print("all as it should be")


if __name__ == "__main__":
    main()
