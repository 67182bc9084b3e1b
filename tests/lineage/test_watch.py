"""What a component reads is noted inside its process, and told apart: inputs, its own, and what nobody declared."""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.runners import Inputs, watch
from taxiway.runners.watched import sitecustomize
from taxiway.trace import BLIND, LOST, MOST_NAMED, ReadFile, Trace
from tests.lineage.conftest import Watched

LOG_OF = f"os.environ[{sitecustomize.LOG!r}]"
HOOK = 'hook = next(each for each in __import__("gc").get_objects() if type(each).__name__ == "Watch")\n'
FEW = HOOK + 'type(hook).hook.__globals__["MOST_NOTES"] = 10\n'


def folder_with(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def undeclared(path: Path) -> tuple[ReadFile, ...]:
    return (ReadFile(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest()),)


def test_declared_inputs_are_counted_by_kind_and_listed(watched: Watched, tmp_path: Path) -> None:
    inputs = Inputs(
        data_dir=folder_with(tmp_path / "data", "a.csv", "b.csv", "c.csv"),
        source_models_dir=folder_with(tmp_path / "sources", "weights"),
        secrets_dir=folder_with(tmp_path / "secrets", "token"),
    )
    script = """
        import os, pathlib, helper
        for name in ("a.csv", "b.csv"):
            (pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]) / name).read_text()
        (pathlib.Path(os.environ["TAXIWAY_SOURCE_MODELS_DIR"]) / "weights").read_text()
        (pathlib.Path(os.environ["TAXIWAY_SECRETS_DIR"]) / "token").read_text()
        out = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"]) / "x"
        out.write_text("1"); out.read_text()
    """.replace("\n        ", "\n")
    seen = watched(script, inputs=inputs, helper="")
    assert seen.method == "audit hook"
    assert seen.read == {"dataset": 2, "source models": 1, "secrets": 1, "source": 2}
    assert (seen.undeclared, seen.faults, seen.unseen) == ((), (), ())
    listed = json.loads((tmp_path / "job" / watch.FILES).read_text())["files"]
    assert listed[str(tmp_path / "secrets" / "token")] == "secrets"
    assert "token" not in (tmp_path / "job" / watch.FILES).read_text().replace("secrets/token", "")


READS = {
    "plainly": "open({path!r}).read()",
    "by descriptor": "import os; os.read(os.open({path!r}, os.O_RDONLY), 9)",
    "for reading and writing": "open({path!r}, 'r+').read()",
    "through a link": "import os; os.symlink({path!r}, 'link'); open('link').read()",
    "by another name": "import os; os.link({path!r}, 'mine'); open('mine').read()",
    "relative to another folder": "import os; os.chdir({folder!r}); open('other.csv').read()",
    "in a thread": "import threading; t = threading.Thread(target=lambda: open({path!r}).read()); t.start(); t.join()",
    "in a fork": "import os; pid = os.fork() or (open({path!r}).read(), os._exit(0)); os.waitpid(pid, 0)",
    "in a child of Python": "import subprocess, sys; subprocess.run([sys.executable, '-c', \"open({path!r}).read()\"])",
    "beside an open folder": "import os; f = os.open({folder!r}, 0); os.open('other.csv', 0, dir_fd=f)",
    "by a link of the kernel's": "import os; os.chdir({folder!r}); open('/proc/self/cwd/other.csv').read()",
    "in a child with a path of its own": (
        "import os, subprocess, sys\nenv = dict(os.environ, PYTHONPATH='.')\n"
        "subprocess.run([sys.executable, '-Bc', \"open({path!r}).read()\"], env=env, check=True)"
    ),
    "in a child without an environment": (
        "import os, subprocess, sys\nos.environ.clear()\n"
        "subprocess.run([sys.executable, '-c', \"open({path!r}).read()\"], check=True)"
    ),
    "after it cleared its environment": "import os; os.environ.clear(); open({path!r}).read()",
    "as a database": "import sqlite3; sqlite3.connect({path!r}).close()",
    "as a database, by its address": (
        "import sqlite3; sqlite3.connect('file:' + {path!r} + '?mode=ro', uri=True).close()"
    ),
    "as a database of this host, by its address": (
        "import sqlite3; sqlite3.connect('file://localhost' + {path!r}.replace('o', '%6F') + '#x', uri=True).close()"
    ),
    "after a link that failed": (
        "import os\nopen('mine', 'w').close()\ntry: os.link('mine', {path!r})\nexcept FileExistsError: pass\n"
        "open({path!r}).read()"
    ),
    "in a folder that became a link": (
        "import os, shutil; mine = {folder!r} + '/mine'; os.mkdir(mine); open(mine + '/other.csv', 'w').close()\n"
        "open(mine + '/other.csv').read(); shutil.rmtree(mine); os.symlink({folder!r}, mine)\n"
        "open(mine + '/other.csv').read()"
    ),
}


@pytest.mark.parametrize("how", READS)
def test_second_file_that_is_secretly_read_is_named(watched: Watched, secret: Path, how: str) -> None:
    seen = watched(READS[how].format(path=str(secret), folder=str(secret.parent)))
    assert seen.undeclared == undeclared(secret)
    assert seen.faults == (f"{seen.undeclared[0]} was read, and is none of its declared inputs",)


def test_file_that_was_read_and_removed_is_named(watched: Watched, secret: Path) -> None:
    seen = watched(f"import os\nopen({str(secret)!r}).read()\nos.remove({str(secret)!r})\n")
    assert seen.undeclared == (ReadFile(path=str(secret)),)


def test_file_that_others_may_not_read_is_named_and_not_hashed(watched: Watched, secret: Path) -> None:
    secret.chmod(0o600)
    assert watched(f"open({str(secret)!r}).read()").undeclared == (ReadFile(path=str(secret)),)


def test_what_the_run_made_itself_is_none_of_its_inputs(watched: Watched, tmp_path: Path) -> None:
    script = f"""
        import os, tempfile, pathlib
        folder = pathlib.Path({str(tmp_path)!r})
        (folder / "made").write_text("1"); (folder / "made").read_text()
        (folder / "made").rename(folder / "moved"); (folder / "moved").read_text()
        (folder / "new").mkdir(); (folder / "new" / "x").touch(); (folder / "new" / "x").read_text()
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("x"); file.flush(); open(file.name).read()
        open("/etc/hostname").read()
    """.replace("\n        ", "\n")
    assert watched(script).undeclared_count == 0


def test_what_was_made_before_it_was_read_is_its_own_and_nothing_else(tmp_path: Path) -> None:
    lines = ["made\t/data/x", "read\t/data/x", "made\t/data/new", "read\t/data/new/deep/z", "read\t/data/y"]
    (tmp_path / watch.NOTES).write_text("\n".join([*lines, "made\t/data/y", ""]))
    code = watch.Code(hash="h" * 64, files={})
    seen = watch.trace(tmp_path, {}, started=code, ended=code, guardian=1, home=None)
    assert seen.undeclared == (ReadFile(path="/data/y"),)


ALIKE = {
    "by a name that it could not take": (
        "os.mkdir('mine')\ntry: os.rename('mine', {path!r})\nexcept NotADirectoryError: pass\nopen({path!r}).read()"
    ),
    "in a folder that it called otherwise": (
        "os.rename({folder!r} + '/theirs', {folder!r} + '/mine')\nopen({folder!r} + '/mine/other.csv').read()"
    ),
}


@pytest.mark.parametrize("how", ALIKE)
def test_file_that_is_older_than_the_run_is_never_its_own(
    watched: Watched, secret: Path, tmp_path: Path, how: str
) -> None:
    folder_with(tmp_path / "theirs", "other.csv")
    # As if all this had been there for a minute: a test cannot make an old file.
    script = (
        HOOK + "import os\nhook._since += 60\n" + ALIKE[how].format(path=str(secret), folder=str(tmp_path))
    )
    renamed = tmp_path / "mine" / "other.csv"
    seen = watched(script)
    assert seen.undeclared == undeclared(renamed if renamed.exists() else secret)


def test_file_that_it_may_not_write_is_not_its_own(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sitecustomize.LOG, str(tmp_path / "notes"))
    monkeypatch.setenv(sitecustomize.SINCE, str(secret.stat().st_ctime + 1))
    # Nothing is refused to root, as whom this test may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    hook = sitecustomize.Watch()
    hook.opened(str(secret), "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    hook.opened(str(secret), "r", os.O_RDONLY)
    assert (tmp_path / "notes").read_text() == f"read\t{secret}\n"


def test_file_that_is_only_written_or_is_not_there_is_not_read(watched: Watched, secret: Path) -> None:
    path = str(secret)
    script = f"open({path!r}, 'a').write('x')\nopen({path!r}, 'w').write('y')\nimport os\nos.path.exists({path!r})\n"
    script += "try: open('/no/such/file')\nexcept OSError: pass\n"
    assert watched(script).undeclared == ()


def test_only_what_caches_hold_is_allowed_below_the_home(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder_with(tmp_path / "home" / ".cache" / "matplotlib", "fonts.json")
    folder_with(tmp_path / "home" / ".cache" / "huggingface", "weights.bin")
    script = "import pathlib\nfor path in pathlib.Path.home().rglob('*.*'):\n    path.is_file() and path.read_bytes()\n"
    seen = watched(script)
    assert seen.undeclared == undeclared(tmp_path / "home" / ".cache" / "huggingface" / "weights.bin")
    assert seen.read["cache"] == 1


def test_code_that_changes_while_it_runs_is_named(watched: Watched) -> None:
    script = (
        "import pathlib\npathlib.Path('helper.py').write_text('x = 2')\npathlib.Path('new.txt').touch()\n"
    )
    seen = watched(script, helper="x = 1")
    assert (seen.changed, seen.faults) == (("helper.py",), ("the code changed while it ran: helper.py",))
    assert watched("pass", helper="x = 1").source_hash != watched("pass", helper="x = 3").source_hash


@pytest.mark.parametrize("command", ["cat {path}", "python -I main.py", "env PYTHONPATH=. python main.py"])
def test_command_whose_reads_nobody_sees_is_a_fault(watched: Watched, secret: Path, command: str) -> None:
    seen = watched(f"open({str(secret)!r}).read()", command=command.format(path=secret))
    assert (seen.method, seen.undeclared, seen.faults) == ("none", (), (BLIND,))
    assert all(step in BLIND for step in ("start it as `python script.py`", "run it in a container"))


def test_notes_that_the_script_threw_away_are_a_fault(watched: Watched, secret: Path) -> None:
    seen = watched(f"import os\nopen({str(secret)!r}).read()\nos.truncate({LOG_OF}, 0)\n")
    assert (seen.method, seen.faults) == ("none", (BLIND,))


def test_programs_that_nobody_sees_are_named(watched: Watched) -> None:
    seen = watched("import subprocess\nsubprocess.run(['true'])\n")
    assert seen.unseen == ("it started programs whose reads nobody sees: true",)
    assert seen.faults == ()


LEAVES = {
    "isolated": "run([sys.executable, '-I', '-c', ''])",
    "isolated, in one word with its command": "run([sys.executable, '-Ic', ''])",
    "after an option with a value": "run([sys.executable, '-W', 'error', '-E', '-c', ''])",
    "without its log, in place of itself": "os.execve(sys.executable, [sys.executable, '-c', ''], {})",
    "under variables that cannot be written": "run([sys.executable, '-c', ''], env=types.MappingProxyType({}))",
}


@pytest.mark.parametrize("how", LEAVES)
def test_python_that_is_kept_from_being_watched_is_a_fault(watched: Watched, how: str) -> None:
    seen = watched(f"import os, sys, types\nfrom subprocess import run\n{LEAVES[how]}\n")
    assert seen.unwatched == (Path(sys.executable).name,)
    assert seen.faults == (f"nobody saw which files {seen.unwatched[0]} read, which it started",)


def test_options_of_the_script_are_none_of_pythons(watched: Watched) -> None:
    assert watched("import subprocess, sys\nsubprocess.run([sys.executable, '-Bc', '', '-I'])\n").faults == ()


def test_path_for_spawned_processes_that_leaves_the_watch_out_is_said(watched: Watched) -> None:
    (unseen,) = watched("import os\nos.environ['PYTHONPATH'] = '.'\n").unseen
    assert unseen.startswith("it took the watch out of PYTHONPATH")
    assert watched("import os\nos.environ['PYTHONPATH'] += ':.'\n").unseen == ()


def test_library_that_opens_files_by_itself_is_named(watched: Watched) -> None:
    seen = watched("import pyarrow\ntry: import polars.nothing_like_it\nexcept ImportError: pass\n")
    assert seen.unseen == ("it loaded libraries that open files by themselves: pyarrow",)
    assert seen.faults == ()


def test_input_that_is_written_to_stays_an_input(watched: Watched, tmp_path: Path) -> None:
    data = folder_with(tmp_path / "data", "a.csv")
    seen = watched(
        f"p = {str(data / 'a.csv')!r}\nopen(p, 'w').write('2')\nopen(p).read()", inputs=Inputs(data_dir=data)
    )
    assert seen.read == {"dataset": 1, "source": 1}


@pytest.mark.parametrize(
    "path",
    ["/usr/local/airflow/x", "/usr/share/nltk_data/x", "/run/media/ana/x", "/usr/src/x", "/opt/x", "/srv/x"],
)
def test_folder_of_the_system_that_may_hold_data_is_noted(path: str) -> None:
    assert not path.startswith(sitecustomize._folders([*sitecustomize.SYSTEM, *sitecustomize._shared()]))


@pytest.mark.parametrize(
    "path", ["/usr/lib/x", "/etc/x", "/usr/share/zoneinfo/x", "/run/secrets/x", "/usr/local/lib/x"]
)
def test_folder_of_the_system_itself_is_not_noted(path: str) -> None:
    assert path.startswith(sitecustomize._folders([*sitecustomize.SYSTEM, *sitecustomize._shared()]))


def test_hosts_that_were_asked_for_are_named(watched: Watched) -> None:
    assert watched("import socket\nsocket.getaddrinfo('localhost', 80)\n").hosts == ("localhost:80",)


def test_sitecustomize_of_the_environment_still_runs(watched: Watched, tmp_path: Path) -> None:
    theirs = folder_with(tmp_path / "theirs")
    (theirs / "sitecustomize.py").write_text("import builtins\nbuiltins.was_here = True\n")
    script = "import sitecustomize, sys\nassert was_here\nassert 'theirs' in sitecustomize.__file__\n"
    script += "assert not any('watched' in folder for folder in sys.path)\n"
    variables = watch.environment(tmp_path, 0.0, str(theirs))
    assert variables["PYTHONPATH"].split(":") == [str(watch.HOOK), str(theirs)]
    inner = f"import os, subprocess, sys\nenv = dict(os.environ, PYTHONPATH={variables['PYTHONPATH']!r})\n"
    inner += f"subprocess.run([sys.executable, '-c', {script!r}], env=env, check=True)\n"
    assert watched(inner).unseen == ()


def test_many_files_of_a_dataset_hide_no_other(watched: Watched, tmp_path: Path, secret: Path) -> None:
    data = folder_with(tmp_path / "data", *(f"{number}.txt" for number in range(30)))
    script = FEW + "import os, pathlib\nfor path in pathlib.Path(os.environ['TAXIWAY_DATA_DIR']).iterdir():\n"
    script += f"    path.read_text()\nopen({str(secret)!r}).read()\n"
    seen = watched(script, inputs=Inputs(data_dir=data))
    assert seen.undeclared == undeclared(secret)
    assert "it read more files than are noted" in seen.unseen
    assert not seen.has_lost


@pytest.mark.parametrize("place", ["{{}}", "new/{{}}"])
def test_many_files_that_it_made_itself_hide_no_other(
    watched: Watched, tmp_path: Path, secret: Path, place: str
) -> None:
    path = f"{tmp_path}/{place.format()}"
    script = FEW + f"import os\nos.makedirs(os.path.dirname({path!r}), exist_ok=True)\n"
    script += f"for number in range(30):\n    open({path!r}.format(number), 'w').close()\n"
    script += f"open({path!r}.format(29)).read()\nopen({str(secret)!r}).read()\n"
    seen = watched(script)
    assert (seen.undeclared, seen.has_lost) == (undeclared(secret), False)


def test_files_that_are_too_many_to_be_noted_are_a_fault(watched: Watched, tmp_path: Path) -> None:
    others = folder_with(tmp_path / "others", *(f"{number}.txt" for number in range(30)))
    seen = watched(FEW + f"for n in range(30):\n    open({str(others)!r} + f'/{{n}}.txt').read()\n")
    assert seen.undeclared_count == 10
    assert LOST in seen.faults


def test_notes_that_are_too_long_to_be_read_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = watch.Code(hash="h" * 64, files={})
    (tmp_path / watch.NOTES).write_text("start\t2 1\n" * 100)
    for most, faults in ((1000, ()), (999, (LOST,))):
        monkeypatch.setattr(watch, "MOST_CHARACTERS", most)
        seen = watch.trace(tmp_path, {}, started=code, ended=code, guardian=1, home=None)
        assert seen.faults == faults


def test_trace_fits_a_tag_of_mlflow_and_is_read_back(tmp_path: Path) -> None:
    paths = [tmp_path / ("é" * 50) / ("x" * 120) / f"{number}" for number in range(40)]
    notes = "".join(f"read\t{path}\n" for path in paths) + "read\tcut sho"
    code = watch.Code(hash="h" * 64, files={})
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / watch.NOTES).write_text(notes)
    seen = watch.trace(tmp_path / "job", {}, started=code, ended=code, guardian=1, home=None)
    assert (len(seen.undeclared), seen.undeclared_count) == (MOST_NAMED, 40)
    assert seen.faults[-1] == "20 more files were read that are none of its declared inputs"
    text = json.dumps(seen.to_json(), ensure_ascii=False)
    assert len(text.encode()) < 8000
    assert Trace.from_json(json.loads(text)) == seen
    assert Trace.from_json(json.loads(text) | {"changed": ["a"]}) == replace(seen, changed=("a",))


def test_path_with_a_line_end_is_one_note(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "a\\n\n\tb"
    path.write_text("1")
    assert watched(f"open({str(path)!r}).read()").undeclared == undeclared(path)
