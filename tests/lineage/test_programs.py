"""What a component starts: programs that the hook cannot look into are missing edges, unless somebody knows better."""

import sys
from pathlib import Path

import pytest

from taxiway.checkout import Checkout
from taxiway.errors import ProjectFaultsError
from taxiway.packaging.package import _manifest
from taxiway.project import Project, read
from taxiway.runners.watch import _is_harmless
from taxiway.runners.watched import taxiway_programs
from taxiway.trace import BESIDE
from tests.lineage.conftest import Watched

STARTS = {
    "subprocess": ("import subprocess; subprocess.run(['cat', {path!r}])", "cat"),
    "by its place": ("import subprocess; subprocess.run(['/bin/cat', {path!r}])", "cat"),
    "a shell": ("import os; os.system('cd /; cat {path} > /dev/null')", "cat"),
    "a shell that reads": ("import os; os.system('true < {path}')", "sh"),
    "a shell with a variable": ("import subprocess; subprocess.run('X=1 true', shell=True)", "sh"),
    "a shell with a command of its own": ("import subprocess; subprocess.run('. {path}', shell=True)", "."),
    "a shell with what is no line": ("import subprocess; subprocess.run('true \"', shell=True)", "sh"),
    "a script of a shell": ("import subprocess; subprocess.run(['bash', {path!r}])", "bash"),
    "spawned": ("import os; os.waitpid(os.posix_spawn('/bin/cat', ['cat', {path!r}], os.environ), 0)", "cat"),
    "in place of itself": ("import os; os.execv('/bin/cat', ['cat', {path!r}])", "cat"),
    "by a Python that it started": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', \"import os; os.system('cat {path}')\"])",
        "cat",
    ),
}


@pytest.mark.parametrize("how", STARTS)
def test_program_that_nobody_looks_into_is_a_fault(watched: Watched, secret: Path, how: str) -> None:
    script, name = STARTS[how]
    seen = watched(script.format(path=str(secret)))
    assert (seen.programs, seen.faults) == ((name,), (BESIDE.format(programs=name),))
    assert all(step in seen.faults[0] for step in ("`programs` of [tool.taxiway]", "run it in a container"))


@pytest.mark.parametrize(
    "script",
    [
        "import subprocess; subprocess.run(['uname', '-a'])",
        "import subprocess; subprocess.run('cd / && uname -a 2>/dev/null | true; (true)', shell=True)",
        "import os; os.system('uname')",
    ],
)
def test_program_that_libraries_start_by_themselves_is_a_note(watched: Watched, script: str) -> None:
    seen = watched(script)
    assert seen.unseen[0].startswith("it started programs whose reads nobody sees: ")
    assert "uname" in seen.unseen[0]
    assert seen.faults == ()


@pytest.mark.parametrize(
    ("name", "is_harmless"),
    [
        ("gcc", True),
        ("gcc-12", True),
        ("x86_64-linux-gnu-g++-13", True),
        ("x86_64-conda-linux-gnu-cc", True),
        ("clang-18.1", True),
        ("cat", False),
        ("gcc-cat", False),
        ("linux-gnu-cat", False),
        ("tar-1", False),
    ],
)
def test_compiler_is_known_by_its_machine_and_its_version(name: str, is_harmless: bool) -> None:
    assert _is_harmless(name) is is_harmless


def test_program_that_is_not_there_was_not_started(watched: Watched) -> None:
    script = "import subprocess\nfor name in ('no-such-program', '/no/such/program'):\n"
    script += "    try: subprocess.run([name])\n    except FileNotFoundError: pass\n"
    seen = watched(script)
    assert (seen.programs, seen.unseen, seen.faults) == ((), (), ())


def test_script_of_python_is_watched_as_python_is(watched: Watched, secret: Path) -> None:
    script = "import os, subprocess\nos.chmod('tool.py', 0o755)\n"
    script += "subprocess.run(['./tool.py', '-S'], env={}, check=True)\n"
    seen = watched(script, tool=f"#!{sys.executable}\nopen({str(secret)!r}).read()\n")
    assert [file.path for file in seen.undeclared] == [str(secret)]
    assert (seen.programs, seen.unwatched, seen.unseen) == ((), (), ())
    outside = watched(script, tool=f"#!{sys.executable} -S\nopen({str(secret)!r}).read()\n")
    assert outside.unwatched == ("tool.py",)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"#!/opt/env/bin/python3.11 -s\nimport x\n", ["/opt/env/bin/python3.11", "-s"]),
        (b"#!/usr/bin/env python3\n", ["python3"]),
        (
            b"#!/bin/sh\n'''exec' '/a long path/python' \"$0\" \"$@\"\n' '''\nimport x\n",
            ["path/python", "$0", "$@"],
        ),
        (b"#!/bin/bash\npython x.py\n", []),
        (b"\x7fELF\x02\x01\xff\n", []),
        (b"", []),
    ],
)
def test_script_says_by_its_first_line_whether_it_is_python(head: bytes, words: list[str]) -> None:
    assert taxiway_programs.python_of(head) == words


def test_project_vouches_for_programs_and_that_is_said(watched: Watched, secret: Path) -> None:
    script = f"import subprocess\nfor name in ('cat', 'tac'): subprocess.run([name, {str(secret)!r}])\n"
    seen = watched(script, vouched=("cat",))
    assert (seen.programs, seen.faults) == (("tac",), (BESIDE.format(programs="tac"),))
    assert seen.unseen == ("its project vouches for programs that it started, whose reads nobody sees: cat",)


def declared(folder: Path, programs: str) -> Project:
    document = folder / "pyproject.toml"
    document.write_text(
        document.read_text().replace("[tool.taxiway]\n", f"[tool.taxiway]\nprograms = {programs}\n")
    )
    return read(Checkout(root=folder))


def test_programs_of_a_project_are_part_of_the_packages_that_start_them(project: Path) -> None:
    found = declared(project, '["ffmpeg", "sox", "ffmpeg"]')
    told = {kind: _manifest(found, component).get("programs") for kind, component in found.components.items()}
    assert told["training"] == told["evaluation"] == told["transform"] == ["ffmpeg", "sox"]
    assert told["inference"] is None


@pytest.mark.parametrize("given", ['"ffmpeg"', "[1]", '[""]', '["/usr/bin/ffmpeg"]', '["ffmpeg -i"]'])
def test_programs_that_are_no_names_are_a_fault_of_the_project(project: Path, given: str) -> None:
    with pytest.raises(ProjectFaultsError, match=r"\[tool.taxiway\].programs"):
        declared(project, given)
