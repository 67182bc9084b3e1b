"""Make a base image from this machine's own Python, so that no test needs a registry: seconds, some 80 MB.

`python -m tests.containers.base_image TAG` makes one by hand. It holds the interpreter with its standard library, a
shell, and the shared libraries that both and common wheels need; nothing is downloaded.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("sh", "sleep")
# What the C++ and OpenMP parts of wheels ask the machine for, and name look-ups load at run time.
LIBRARIES = (
    *(
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libgomp.so.1",
        "libnss_files.so.2",
        "libnss_dns.so.2",
        "libresolv.so.2",
    ),
    *("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6"),
)
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages"}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\npasswd: files\ngroup: files\n",
    "etc/ld.so.conf": "/usr/local/lib\n/usr/lib\n",
}
FOLDERS = {
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "root": 0o700,
    "proc": 0o755,
    "sys": 0o755,
    "dev": 0o755,
    "run": 0o755,
}
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
RECIPE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_LOADED = re.compile(r"(?:=> )?(/\S+) \(0x")


def make(client: Any, tag: str) -> None:
    """Import this machine's Python as an image under a tag, unless the engine has it."""
    if client.images(tag):
        return
    with tempfile.TemporaryDirectory() as scratch:
        root, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
        _fill(root)
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".", filter=_owned_by_root)
        repository, _, version = tag.rpartition(":")
        path = "PATH=/usr/local/bin:/usr/bin:/bin"
        client.import_image(
            str(archive), repository=repository, tag=version, changes=[f"ENV {path} LANG=C.UTF-8"]
        )


def _fill(root: Path) -> None:
    python = root / "usr/local/bin" / f"python{VERSION}"
    python.parent.mkdir(parents=True)
    for name, target in LINKS.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    for name, mode in FOLDERS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    shutil.copy2(Path(sys._base_executable).resolve(), python)  # type: ignore[attr-defined]
    for name in ("python3", "python"):
        (python.parent / name).symlink_to(python.name)
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        root / f"usr/local/lib/python{VERSION}",
        ignore=_left_out,
        symlinks=False,
    )
    for name in PROGRAMS:
        shutil.copy2(Path(shutil.which(name) or f"/bin/{name}").resolve(), root / "usr/bin" / name)
    for library in _libraries(root):
        _place(library, root)
    subprocess.run(["/sbin/ldconfig", "-r", str(root)], check=True, capture_output=True)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in LEFT_OUT or name.startswith(("config-", "_test", "_tkinter"))}


def _libraries(root: Path) -> set[Path]:
    """Return every library that what is in the image needs, and that wheels are known to."""
    known = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    named = {
        line.split()[0]: line.rsplit(None, 1)[-1] for line in reversed(known.splitlines()[1:]) if "=>" in line
    }
    extra = [named[name] for name in LIBRARIES if name in named]
    programs = [path for path in root.rglob("*") if path.is_file() and _is_binary(path)]
    return {Path(path) for path in extra} | set(_needed_by([*map(str, programs), *extra]))


def _needed_by(programs: Iterable[str]) -> Iterator[Path]:
    told = subprocess.run(["ldd", *programs], check=False, capture_output=True, text=True).stdout
    return (Path(found) for found in _LOADED.findall(told))


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _place(library: Path, root: Path) -> None:
    """Put a library where the loader looks: its own interpreter's path is part of every program."""
    folder = "usr/lib64" if "ld-linux" in library.name and library.parts[1].endswith("lib64") else "usr/lib"
    if library.name.startswith("ld-linux") and folder == "usr/lib":
        folder = str(library.parent).lstrip("/")
    target = root / folder / library.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(library.resolve(), target)


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


if __name__ == "__main__":
    import docker  # type: ignore[import-untyped]

    make(docker.from_env().api, sys.argv[1])
