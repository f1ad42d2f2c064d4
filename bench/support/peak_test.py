"""Counts the multiply-adds in the loop of peak.hpp as it was compiled: python3 peak_test.py OBJDUMP PROGRAM

A compiler that merged chains, dropped some or kept them in memory would make the peak, and every share of it, a fiction.
The loop must hold as many multiply-adds as there are chains (24 for 512-bit vectors, 12 for 256), or a multiple where it
was unrolled, on that many registers, and touch no memory.
"""

import re
import subprocess
import sys

CHAINS = {"zmm": 24, "ymm": 12}
SKIPPED = 77


def instructions(objdump, program, function):
    """(address, text) of every instruction of the function."""
    listing = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", program], capture_output=True, text=True, check=True)
    body = re.search(rf"^[0-9a-f]+ <{re.escape(function)}>:\n((?:.+\n)+)", listing.stdout, re.M)
    if not body:
        sys.exit(f"{program} has no function {function}: was it inlined?")
    return [(int(address, 16), text) for address, text in re.findall(r"^\s*([0-9a-f]+):\s+(.*)$", body[1], re.M)]


def loops(code):
    """The instructions between the target of every jump backwards and the jump."""
    for at, (address, text) in enumerate(code):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        if jump and int(jump[1], 16) <= address:
            yield [text for start, text in code[: at + 1] if start >= int(jump[1], 16)]


def faults(loop):
    """What is wrong with the innermost loop, as sentences."""
    adds = [text for text in loop if text.startswith("vfmadd")]
    registers = {text.split(",")[-1].strip("% ") for text in adds}
    kind = next(iter(registers))[:3]
    chains = CHAINS.get(kind)
    if chains is None:
        return [f"multiply-adds on {kind} registers: not on whole vectors"]
    found = []
    if len(registers) != chains or len(adds) % chains:
        found.append(f"{len(adds)} multiply-adds on {len(registers)} {kind} registers: needed are {chains} chains")
    found += [f"memory is touched: {text}" for text in loop if re.search(r"\(%", text)]
    return found


def main():
    objdump, program = sys.argv[1:]
    code = instructions(objdump, program, "double bench::peak_gflops_once<float>(double)")
    with_adds = [loop for loop in loops(code) if any(text.startswith("vfmadd") for text in loop)]
    if not with_adds:
        print("no loop with x86 multiply-adds: another processor, or one without them")
        return SKIPPED
    innermost = min(with_adds, key=len)
    print("\n".join(innermost))
    if found := faults(innermost):
        sys.exit("\n".join(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
