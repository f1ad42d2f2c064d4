"""Stands in for the CUDA libraries that PyTorch's Linux wheel is linked with, so that it loads without them.

For every library that PyTorch's own need and that is not in the environment, a small one of that name is built next to
them, with the symbols that PyTorch looks up. All of them are one function that ends the process: on a processor none is
ever called. PyTorch's own files, and so its code for processors, stay as they are.
"""

import os
import re
import subprocess
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path

SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|cuda|gfortran|quadmath)|ld-linux.*)\.so")


def lines(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def main():
    packages = Path(sysconfig.get_path("purelib"))
    folder = packages / "torch" / "lib"
    present = {file.name for file in folder.iterdir()} | {file.name for file in (packages / "nvidia").rglob("*.so*")}
    missing, wanted, versions = set(), defaultdict(set), defaultdict(set)
    for file in folder.glob("*.so"):
        for line in lines("objdump", "-p", file):
            if match := re.match(r"\s+NEEDED\s+(\S+)", line):
                if match[1] not in present and not SYSTEM.match(match[1]):
                    missing.add(match[1])
            elif match := re.match(r"\s+required from (\S+):", line):
                library = match[1]
            elif match := re.match(r"\s+0x\S+ 0x\S+ \d+ (\S+)", line):
                versions[library].add(match[1])
        for line in lines("nm", "-D", "--undefined-only", file):
            name, _, version = line.split()[-1].partition("@")
            wanted[version.lstrip("@")].add(name)

    for library in sorted(missing):
        mine = sorted(versions[library])  # none: its symbols carry no version
        names = set().union(*(wanted[version] for version in mine)) if mine else wanted[""]
        names = sorted(name for name in names if re.match(r"_*(cu|nv|nccl)", name))
        source = "".join(f".globl {name}\n.type {name}, @function\n{name}:\n" for name in names) + "ud2\n"
        script = folder / f"{library}.map"
        script.write_text("".join(f"{version} {{ global: *; }};\n" for version in mine) or "{ global: *; };\n")
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-nostdlib", "-x", "assembler", "-", f"-Wl,-soname,{library}",
                        f"-Wl,--version-script={script}", "-o", folder / library], input=source, text=True, check=True)
        script.unlink()
    print(f"PyTorch without CUDA: {len(missing)} libraries stood in for: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    sys.exit(main())
