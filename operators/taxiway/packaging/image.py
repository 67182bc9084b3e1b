"""Builds the container image of a code package: its locked environment as one image, its source as a layer on top.

What the environment needs is installed by uv on this host and copied in, so that a build asks no network, needs no
index address or credential, and none can end up in an image. An inference image has the Bento in place of the source,
and serves it; without one, it serves a model by MLflow's server. Which image is the registered one is decided in
`registry/packages.py`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxiway import archive
from taxiway.archive import Entry
from taxiway.engine import Engine
from taxiway.errors import ArtifactChangedError, ToolFailedError
from taxiway.packaging import environment, source
from taxiway.packaging.environment import Lock
from taxiway.packaging.package import CodePackage
from taxiway.settings import Settings
from taxiway.tools import digest, remove, scratch_folder
from taxiway_serving.runtimes.images import SEALED

Log = Callable[[str], None]
USER = 10001
"""Owner of a component's processes in every image; no name that a base image might give to somebody."""
SOURCE_DIR, OUTPUT_DIR, ENVIRONMENT_DIR = "/taxiway/source", "/taxiway/output", "/opt/taxiway"
BENTO_DIR = "/taxiway/bento"
SERVE = ["python", "-m", "bentoml", "serve", BENTO_DIR]
# MLflow's own command starts its server as a child and ends without it: nothing under way would be answered.
_SERVE_MODEL = """
import os, shlex
from mlflow.pyfunc.scoring_server import get_cmd
command, variables = get_cmd(os.environ["TAXIWAY_MODEL_DIR"], int(os.environ["PORT"]), "0.0.0.0", nworkers=1)
words = shlex.split(command)
os.execvpe(words[0], words, variables)
"""
SERVE_MODEL = ["python", "-c", _SERVE_MODEL]
# Part of the names of environment images: another recipe makes other images.
_RECIPE = 1
_MANY_UNDERSCORES = re.compile(r"_{3,}")
# Where the path of a Python is long, a program begins with three lines that a shell reads.
_SHEBANG = re.compile(rb"\A#!(?:/bin/sh\n'''exec' [^\n]*\n' '''|[^\n]*)\n")

_MAKE_ENVIRONMENT = """
import sys, venv
have = "%d.%d" % sys.version_info[:2]
if have != {python!r}:
    sys.exit("the base image has Python %s, the package is locked for {python}: set TAXIWAY_BASE_IMAGE" % have)
venv.EnvBuilder(symlinks=True, with_pip=False).create({folder!r})
for name, line in (("passwd", "taxiway:x:{user}:{user}::/tmp:/bin/false"), ("group", "taxiway:x:{user}:")):
    with open("/etc/" + name, "a") as file:
        file.write(line + chr(10))
"""
_COMPILE = """
import compileall, py_compile
compileall.compile_dir({source!r}, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
"""
# A volume of the engine begins as the folder that the image has in its place: with its files and its owner. A file that
# cannot be compiled, such as part of a template, is none that is imported: it fails nothing here, as in a process.
_FINISH = """
import compileall, os, py_compile
compileall.compile_dir({source!r}, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
os.makedirs({output!r}, exist_ok=True)
os.chown({output!r}, {user}, {user})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image on an engine.

    Attributes:
        name: Tag, or name in a registry with its digest.
        id: The engine's id, which is made of its content.
    """

    name: str
    id: str


def repository_of(made: CodePackage) -> str:
    """Return the name of a package's image without its tag; a handle's odd underscores are no part of it."""
    handle = _MANY_UNDERSCORES.sub("__", made.handle).rstrip("_")
    return f"taxiway/{handle}.{made.kind}"


def tag_of(made: CodePackage) -> str:
    """Return the name of a package's image: whose it is, and the hash of source, lock, Python and manifest."""
    return f"{repository_of(made)}:{made.digest[:16]}"


def build(
    made: CodePackage,
    source_dir: Path,
    locked: Lock,
    engine: Engine,
    settings: Settings,
    log: Log,
    *,
    bento_dir: Path | None = None,
) -> Image:
    """Build the image of a package, and that of its environment where the engine has none yet.

    Args:
        made: The package.
        source_dir: Its source, checked against the package.
        locked: Its lock, checked as well.
        engine: Where to.
        settings: The base image, and where files are kept meanwhile.
        log: Called with a line for each step.
        bento_dir: Its Bento, for inference by a service.

    Raises:
        ToolFailedError: If the base image is not there, or a step fails; the end of what it said is in the message.
        TransportError: If the engine does not answer.
    """
    whole = made.manifest.get("image")
    base = whole or settings.containers.base_image.format(python=made.python)
    base_id = _base(base, "image" if whole else "TAXIWAY_BASE_IMAGE", engine, log)
    labels = {
        "taxiway.handle": made.handle,
        "taxiway.kind": made.kind,
        "taxiway.digest": made.digest,
        "taxiway.base": base,
    }
    if whole:
        entries = [_dockerfile(f"FROM {base_id}\n")]
    elif made.manifest.get("dockerfile"):
        below = _own(made, source_dir, locked, base, base_id, engine, log)
        entries = _content(made, below, source_dir, bento_dir)
    else:
        below = _environment(locked, base, base_id, engine, settings, log)
        entries = _content(made, below, source_dir, bento_dir)
        labels[SEALED] = "true"
    tag = tag_of(made)
    log(f"building {tag}")
    return Image(name=tag, id=_build(entries, tag, labels, engine))


def _content(made: CodePackage, below: str, source_dir: Path, bento_dir: Path | None) -> list[Entry]:
    """Return what lies on top of an environment: the source, the Bento that is made of it, or nothing but a server."""
    if bento_dir is None and made.kind == "inference":
        return [_dockerfile(server_recipe(below))]
    if bento_dir is None:
        return [_dockerfile(package_recipe(below)), Entry(name="source"), *_source("source/", source_dir)]
    return [_dockerfile(inference_recipe(below)), Entry(name="bento"), *_source("bento/", bento_dir)]


def check(made: CodePackage, expected: Image, found: str) -> None:
    """Refuse an image that is not the recorded one.

    Raises:
        ArtifactChangedError: If its id is another one.
    """
    if found != expected.id:
        name = f"{made.handle}.{made.kind} {made.digest[:12]}"
        again = f"it was not run; remove {expected.name} from the engine, and it is built again"
        was, now = expected.id.removeprefix("sha256:"), found.removeprefix("sha256:")
        raise ArtifactChangedError(name, "image", was, now, again)


def environment_recipe(base: str, python: str) -> str:
    """Return the Dockerfile of an environment; `bin/` and `site/` lie beside it."""
    folder = f"{ENVIRONMENT_DIR}/environment"
    script = _MAKE_ENVIRONMENT.format(python=python, folder=folder, user=USER)
    return f"""FROM {base}
USER 0
RUN {json.dumps(["python3", "-c", script])}
COPY bin/ {folder}/bin/
COPY site/ {folder}/lib/python{python}/site-packages/
ENV PATH={folder}/bin:$PATH LANG=C.UTF-8
"""


def package_recipe(below: str) -> str:
    """Return the Dockerfile of a package on top of its environment; `source/` lies beside it."""
    script = _FINISH.format(source=SOURCE_DIR, output=OUTPUT_DIR, user=USER)
    return f"""FROM {below}
USER 0
COPY --chown={USER}:{USER} source/ {SOURCE_DIR}/
RUN {json.dumps(["python", "-c", script])}
USER {USER}:{USER}
WORKDIR {SOURCE_DIR}
"""


def inference_recipe(below: str) -> str:
    """Return the Dockerfile of a Bento on top of its environment; `bento/` lies beside it.

    Where it listens is told by variables, as every image of a Bento has it.
    """
    script = _COMPILE.format(source=BENTO_DIR)
    return f"""FROM {below}
USER 0
COPY bento/ {BENTO_DIR}/
RUN {json.dumps(["python", "-c", script])}
USER {USER}:{USER}
WORKDIR {BENTO_DIR}
ENTRYPOINT {json.dumps(SERVE)}
CMD []
"""


def server_recipe(below: str) -> str:
    """Return the Dockerfile of MLflow's scoring server over the model that a variant's image brings."""
    return f"""FROM {below}
USER {USER}:{USER}
WORKDIR /tmp
ENTRYPOINT {json.dumps(SERVE_MODEL)}
CMD []
"""


def _base(base: str, named_by: str, engine: Engine, log: Log) -> str:
    found = engine.image_id(base)
    if found is None:
        log(f"pulling {base}")
        try:
            engine.pull(base)
        except ToolFailedError as error:
            step = f"; pull it by hand, or set {named_by} to an image that the engine has"
            raise ToolFailedError(error.command, error.exit_code, error.output + step) from error
        found = engine.image_id(base)
    return found or base


def _environment(locked: Lock, base: str, base_id: str, engine: Engine, settings: Settings, log: Log) -> str:
    tag = f"taxiway/environment:{digest([locked.key, base_id, _RECIPE])[:16]}"
    if engine.image_id(tag):
        return tag
    log(f"building {tag}: {len(locked.text.splitlines())} packages on {base}")
    with scratch_folder(settings.home / "images") as folder:
        site, programs = folder / "site", folder / "bin"
        programs.mkdir()
        environment.install_into(locked, site, folder, settings)
        _take_programs(site / "bin", programs)
        entries = [
            _dockerfile(environment_recipe(base, locked.python)),
            Entry(name="bin", path=programs),
            Entry(name="site", path=site),
        ]
        _build(entries, tag, {"taxiway.lock": locked.hash, "taxiway.base": base}, engine)
        remove(site)
    return tag


def _own(
    made: CodePackage, source_dir: Path, locked: Lock, base: str, base_id: str, engine: Engine, log: Log
) -> str:
    """Build a team's own Dockerfile, with its source and `lock.txt` beside it."""
    tag = f"{repository_of(made)}.own:{digest([made.digest, base_id, _RECIPE])[:16]}"
    if engine.image_id(tag):
        return tag
    log(f"building {tag} by {made.manifest['dockerfile']}")
    text = (source_dir / made.manifest["dockerfile"]).read_bytes()
    entries = [
        Entry(name="Dockerfile", content=text, mode=0o644),
        Entry(name="lock.txt", content=locked.text.encode(), mode=0o644),
        *(entry for entry in _source("", source_dir) if entry.name != "Dockerfile"),
    ]
    _build(entries, tag, {"taxiway.digest": made.digest}, engine, {"BASE_IMAGE": base, "PYTHON": made.python})
    return tag


def _build(
    entries: Sequence[Entry],
    tag: str,
    labels: Mapping[str, str],
    engine: Engine,
    arguments: Mapping[str, str] | None = None,
) -> str:
    # What is generated brings everything along; a team's own recipe may fetch what it likes.
    network = "none" if arguments is None else "default"
    with archive.stream(entries) as pieces:
        return engine.build(pieces, tag, labels, arguments or {}, network)


def _dockerfile(text: str) -> Entry:
    return Entry(name="Dockerfile", content=text.encode(), mode=0o644)


def _source(prefix: str, source_dir: Path) -> list[Entry]:
    """Return the source as entries of an archive, without bytecode that a host left there."""
    return [Entry(name=f"{prefix}{name}", path=source_dir / name) for name in source.listing(source_dir)]


def _take_programs(installed: Path, programs: Path) -> None:
    """Move the programs that uv installed out of the way, and make them start the environment's own Python."""
    if not installed.is_dir():
        return
    installed.replace(programs)
    python = f"#!{ENVIRONMENT_DIR}/environment/bin/python\n".encode()
    for program in programs.iterdir():
        content = program.read_bytes() if program.is_file() else b""
        if content.startswith(b"#!") and b"python" in content[:300]:
            # uv links files from its cache: a new file leaves the cached one alone.
            program.unlink()
            program.write_bytes(_SHEBANG.sub(python, content, count=1))
            program.chmod(0o755)
