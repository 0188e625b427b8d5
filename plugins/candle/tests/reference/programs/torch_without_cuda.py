"""Lets PyTorch's ordinary build for Linux be imported where CUDA's libraries are not installed.

usage: torch_without_cuda.py SITE_PACKAGES

The wheel on PyPI is linked with four gigabytes of libraries that nothing calls on a CPU, but that the
loader wants to see. An empty library stands in for each: it has the name, the symbol versions and the
symbols that PyTorch's libraries take from it, as functions that abort. CUDA's own runtime is not
replaced, since static initialisers call it; `requirements-torch.txt` names its package, which is small.

Needs `cc` and `readelf`. A library that is there already stays.
"""

import collections
import pathlib
import re
import subprocess
import sys

LIBRARY = re.compile(
    r"lib(cublas|cublasLt|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt|nccl|nvrtc|"
    r"nvshmem_host)\.so(\.\d+)?$"
)
PREFIX = re.compile(
    r"^(cublas|cudnn|cufft|cuFile|cupti|curand|cusolver|cusparse|nccl|pnccl|nvrtc|nvshmem)"
)
TRAP = {"x86_64": "ud2", "aarch64": "udf #0"}


def readelf(*arguments):
    command = ["readelf", "--wide", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wanted(folder):
    """The libraries that PyTorch's own name, each with its symbols by version; "" is no version."""
    versions = collections.defaultdict(lambda: collections.defaultdict(set))
    unversioned = set()
    for library in sorted(folder.glob("*.so")):
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", library)):
            if LIBRARY.match(name):
                versions[name][""].update()
        owner, file = {}, None
        for line in readelf("--version-info", library).splitlines():
            if found := re.search(r"\bFile: (\S+)", line):
                file = found[1]
            elif found := re.search(r"\bName: (\S+) +Flags", line):
                owner[found[1]] = file
        for found in re.finditer(r"\bUND (\w+)(?:@(\S+))?", readelf("--dyn-syms", library)):
            name, version = found[1], found[2] or ""
            if LIBRARY.match(owner.get(version) or ""):
                versions[owner[version]][version].add(name)
            elif PREFIX.match(name):
                unversioned.add(name)
    for symbols in versions.values():
        symbols[""].update(unversioned)
    return versions


def build(target, name, versions, machine):
    """Assembles the library `name` with these symbols."""
    source, script = target.with_suffix(".s"), target.with_suffix(".map")
    lines, nodes = [".text"], []
    for version, symbols in versions.items():
        for symbol in sorted(symbols):
            lines += [f".globl {symbol}", f".type {symbol}, @function", f"{symbol}:"]
        if version:
            nodes.append(f"{version} {{ global: {'; '.join(sorted(symbols))}; }};")
    lines += [TRAP[machine], '.section .note.GNU-stack,"",@progbits', ""]
    source.write_text("\n".join(lines))
    script.write_text("\n".join(nodes))
    command = ["cc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", target, source]
    if nodes:
        command.insert(1, f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
    source.unlink()
    script.unlink()


def main(site_packages):
    site_packages = pathlib.Path(site_packages)
    folder = site_packages / "torch" / "lib"
    machine = subprocess.check_output(["uname", "-m"], text=True).strip()
    present = {path.name for path in site_packages.glob("nvidia/**/lib/*.so*")}
    present |= {path.name for path in folder.iterdir()}
    for name, versions in sorted(wanted(folder).items()):
        if name not in present:
            build(folder / name, name, versions, machine)


if __name__ == "__main__":
    main(*sys.argv[1:])
