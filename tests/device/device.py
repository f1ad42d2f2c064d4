"""Compiles a file for a device and looks at what the compiler made of it. Nothing is run: no device is needed.

Prints every kernel with its registers and memory, and fails where one is beyond its row of the table. A row says which
architecture, which words the kernel's name has, the most that is allowed, and instructions that have to be in its machine
code (looked at where there is a disassembler); one that fits no kernel is a failure too.
Exits with 77, which ctest takes for skipped, where the compiler cannot do without something that is not here.
"""

import argparse
import csv
import pathlib
import re
import subprocess
import sys

SKIPPED = 77
PROBE = "#include <Kokkos_Core.hpp>\n"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", required=True, help="sm_80, sm_90a, gfx90a, ...")
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--limits", type=pathlib.Path, help="the table; without it nothing is held to anything")
    parser.add_argument("--nvdisasm", help="NVIDIA's disassembler, for an output that is a cubin")
    parser.add_argument("command", nargs="+", help="the compiler and its flags, after --")
    return parser.parse_args()


def compiled(command, source, output, rest):
    return subprocess.run([*command, str(source), "-o", str(output), *rest], capture_output=True, text=True)


def cuda_kernels(report):
    """What ptxas says: [(mangled name, {quantity: number})]."""
    kernels = []
    for line in report.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernels.append((match[1], {}))
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if kernels:
                kernels[-1][1].update(stack=int(match[1]), spills=int(match[2]) + int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[-1][1].update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    return kernels


def hip_kernels(report):
    """What clang's remarks say, in the same terms: vector and accumulation registers (one file of 512), scratch memory of a
    lane; and how many waves fit beside each other."""
    kernels = []
    words = {"VGPRs": "registers", "AGPRs": "registers", "ScratchSize [bytes/lane]": "stack", "VGPRs Spill": "spills",
             "LDS Size [bytes/block]": "shared", "Occupancy [waves/SIMD]": "waves"}
    for line in report.splitlines():
        match = re.search(r"remark:\s+([^:]+): (\w+)", line)
        if match and match[1] == "Function Name":
            kernels.append((match[2], {}))
        elif match and match[1] in words:
            numbers = kernels[-1][1]
            numbers[words[match[1]]] = numbers.get(words[match[1]], 0) + int(match[2])
    return kernels


def instructions_of(nvdisasm, cubin):
    """The instructions of each kernel of a cubin, without what follows their dots: {mangled name: {instruction: count}}."""
    text = subprocess.run([nvdisasm, str(cubin)], capture_output=True, text=True, check=True).stdout
    kernels, current = {}, {}
    for line in text.splitlines():
        if match := re.match(r"\.text\.(\w+):", line):
            current = kernels.setdefault(match[1], {})
        elif match := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)", line):
            current[match[1]] = current.get(match[1], 0) + 1
    return kernels


def instructions_in(assembly):
    """The same of clang's assembly."""
    kernels, current = {}, {}
    for line in assembly.read_text().splitlines():
        if match := re.match(r"(\w+):\s+; @", line):
            current = kernels.setdefault(match[1], {})
        elif match := re.match(r"\s+([vs]_\w+|ds_\w+)", line):
            current[match[1]] = current.get(match[1], 0) + 1
    return kernels


def missing_instructions(found, limits, arch):
    faults = []
    for row in limits:
        if row["arch"] == arch:
            for name, counts in found.items():
                if has_words(name, row["kernel"].split()):
                    print(f"{arch} {row['kernel']}: " + ", ".join(f"{counts.get(i, 0)} {i}" for i in row["needs"].split()))
                    faults += [f"{row['kernel']}: no {i}" for i in row["needs"].split() if not counts.get(i)]
    return faults


def has_words(mangled, words):
    """Whether a mangled name has every one of some identifiers, or numbers as template arguments."""
    return all((f"Li{word}E" if word.isdigit() else f"{len(word)}{word}") in mangled for word in words)


def own_name(mangled):
    """The identifiers of a mangled name that tell Rondo's kernels apart."""
    known = r"(?<=\d)(portable|mma|mfma|hopper|[A-Za-z]+Fold|[A-Za-z]+Gradient|bfloat16|float16|softcap)(?=[\dEIL])"
    return " ".join(dict.fromkeys(re.findall(known, mangled)))


def faults_of(kernels, limits, arch):
    faults = []
    for row in limits:
        if row["arch"] != arch:
            continue
        words = row["kernel"].split()
        fitting = [numbers for name, numbers in kernels if has_words(name, words)]
        if not fitting:
            faults.append(f"{row['kernel']}: no kernel of that name")
        for numbers in fitting:
            for quantity in ("registers", "stack", "spills", "shared"):
                if numbers[quantity] > int(row[quantity]):
                    faults.append(f"{row['kernel']}: {numbers[quantity]} {quantity}, at most {row[quantity]} allowed")
    return faults


def main():
    given = arguments()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    result = compiled(given.command, given.source, given.output, [])
    report = result.stdout + result.stderr
    if result.returncode != 0:
        # Can this compiler do anything with Kokkos' headers here? If it cannot, that is no fault of Rondo's.
        probe = given.output.with_suffix(".probe.cpp")
        probe.write_text(PROBE)
        tried = compiled(given.command, probe, given.output.with_suffix(".probe.o"), [])
        if tried.returncode != 0:
            error = next((line for line in (tried.stderr + tried.stdout).splitlines() if "error" in line), "no message")
            print(f"skipped: {given.command[0]} does not compile Kokkos' own headers for {given.arch} here: {error}")
            return SKIPPED
        print(report)
        print(f"{given.source.name} does not compile for {given.arch}")
        return 1
    kernels = (hip_kernels if given.arch.startswith("gfx") else cuda_kernels)(report)
    for name, numbers in kernels:
        if own_name(name):
            print(f"{given.arch} {own_name(name)}: " + ", ".join(f"{n} {q}" for q, n in numbers.items()))
    if slow := [line for line in report.splitlines() if "wgmma" in line and "serialized" in line or "setmaxnreg" in line]:
        print("\n".join(slow))
        print("products of warp groups wait for each other, or registers are not shared out as they should be")
        return 1
    if not kernels:
        print("the compiler reported no kernel")
        return 1
    faults = []
    if given.limits:
        with open(given.limits, encoding="utf-8", newline="") as table:
            limits = list(csv.DictReader(table))
        faults = faults_of(kernels, limits, given.arch)
        if given.arch.startswith("gfx"):
            faults += missing_instructions(instructions_in(given.output), limits, given.arch)
        elif given.nvdisasm:
            faults += missing_instructions(instructions_of(given.nvdisasm, given.output), limits, given.arch)
    for fault in faults:
        print(f"beyond the table, {given.arch} {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
