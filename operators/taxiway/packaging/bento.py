"""Builds the Bento of an inference package with the package's own Python, once; the model is no part of it.

BentoML is never imported by the library: the build runs in the package's environment.
"""

import json
import os
import shutil
from pathlib import Path

from taxiway.settings import child_environment
from taxiway.tools import fresh_folder, program, run

_BUILD = """
import json, sys
import bentoml
options = json.load(open(sys.argv[1]))
bento = bentoml.build(options["service"], name=options["name"], version=options["version"],
    build_ctx=options["source"], include=options["files"],
    python={"packages": options["packages"], "lock_packages": False, "pack_git_packages": False})
print("BENTO=" + bento.path)
"""


def build(
    target: Path,
    *,
    python: Path,
    service: str,
    name: str,
    version: str,
    source: Path,
    files: list[str],
    packages: list[str],
) -> Path:
    """Build a Bento folder unless it is there, and return it; `bentoml serve` takes it as it is.

    Args:
        target: The folder to make; it appears whole or not at all.
        python: Interpreter of the package's environment, which holds bentoml.
        service: `module:Class`.
        name: Name of the Bento.
        version: Version of the Bento.
        source: Folder of the package's source.
        files: Files to take along, relative to it.
        packages: The package's locked requirements, so that the Bento can be served elsewhere too.

    Raises:
        ToolFailedError: If the service cannot be imported or built; the end of the build's output is in the message.
    """
    if target.exists():
        return target
    with fresh_folder(target) as folder:
        options = {
            "service": service,
            "name": name,
            "version": version,
            "source": str(source),
            "files": files,
            "packages": packages,
        }
        (folder / "home").mkdir()
        (folder / "home" / "options.json").write_text(json.dumps(options), encoding="utf-8")
        command: list[str | Path] = [python, "-c", _BUILD, folder / "home" / "options.json"]
        output = run(command, cwd=source, environment=_environment(folder), is_trusted=False)
        built = next(line.removeprefix("BENTO=") for line in output.splitlines() if line.startswith("BENTO="))
        for entry in os.listdir(built):
            shutil.move(Path(built) / entry, folder / entry)
        shutil.rmtree(folder / "home")
    return target


def _environment(folder: Path) -> dict[str, str]:
    # BentoML asks for a uv on the path even where it locks nothing.
    path = os.pathsep.join([str(program("uv").parent), child_environment().get("PATH", os.defpath)])
    return {
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
        "PATH": path,
    }
