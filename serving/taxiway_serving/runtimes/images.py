"""Images of variants: the inference image with the model's files baked in, made once, and refused when it was changed.

No folder of a host is mounted, so the engine may be anywhere. What the inference image holds is the library's; which
variant needs which image is asked by `docker.py` and `swarm.py`.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from taxiway_serving import archive
from taxiway_serving.archive import READ_ONLY, Entry
from taxiway_serving.errors import ConflictError, InvalidSpecError, ToolFailedError
from taxiway_serving.runtimes.containers import Found
from taxiway_serving.runtimes.engine import Engine
from taxiway_serving.runtimes.runtime import VariantSpec

MODEL_DIR: Final = "/taxiway/model"
SEALED: Final = "taxiway.read-only"
"""Label of inference images that run with a read-only file system."""
OWNER: Final = "taxiway.variant-owner"
_RECIPE: Final = 1
_MAKERS: Final = 2
_YOUNG_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The image of a variant, verified a moment ago.

    Attributes:
        name: Its tag on the engine.
        id: The engine's id, which is made of its content. A container that is started by it runs this and nothing else.
        pinned: Name and digest in the registry, which every other engine can pull; "" where there is no registry.
        user: Who its processes run as, "" for root.
        is_sealed: Whether it runs with a read-only file system.
    """

    name: str
    id: str
    pinned: str = ""
    user: str = ""
    is_sealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What was made, as it is kept on disk: the name, the ids of image and inference image, the name with digest."""

    name: str
    id: str
    base_id: str
    pinned: str = ""


class Images:
    """Makes the images of variants on one engine and finds them again. Threads may share it.

    Args:
        engine: The engine, of a client that waits for long builds.
        home: Folder of the records of what was made, below `images/variants`.
        owner: What tells this home from any other on the engine.
        registry: Where images are pushed to and run from by digest, such as `registry.example:5000/team`, or None.
    """

    def __init__(self, engine: Engine, home: Path, *, owner: str, registry: str | None = None) -> None:
        self._engine = engine
        self._folder = home / "images" / "variants"
        self._owner = owner
        self._registry = registry
        self._keys: dict[tuple[str, Path], str] = {}
        self._making: dict[tuple[str, Path], Future[Image]] = {}
        self._room = threading.Semaphore(_MAKERS)

    def prepared(self, spec: VariantSpec) -> Image | None:
        """Return the verified image of a variant, or begin to make it and return None while that lasts.

        Call it again until it answers; one thread calls it.

        Raises:
            InvalidSpecError: If the specification has no image or no model.
            ConflictError: If an image is not the recorded one.
            ToolFailedError: If it cannot be pulled, built or pushed; the next call tries again.
            TransportError: If the engine or the registry does not answer.
        """
        wish = _wish(spec)
        making = self._making.get(wish)
        if making is None:
            key = self._keys.get(wish)
            present = self._present(key, spec, pulls=False) if key else None
            if present:
                return present
            self._making[wish] = self._begin(spec)
            return None
        if not making.done():
            return None
        del self._making[wish]
        return making.result()

    def make(self, spec: VariantSpec) -> Image:
        """Return the verified image of a variant, made if it is not there; it takes as long as it takes.

        Raises:
            InvalidSpecError, ConflictError, ToolFailedError, TransportError: As `prepared`.
        """
        wish = _wish(spec)
        key = self._keys[wish] = _digest([_RECIPE, spec.image, spec.handle, content_hash(wish[1])])
        return self._present(key, spec) or self._build(key, spec)

    def prune(self, needed: Collection[str], *, older_than_s: float = _YOUNG_S) -> tuple[str, ...]:
        """Remove images of this home that nobody needs, and return their names.

        Args:
            needed: Names of those that stay. What a container still runs stays as well.
            older_than_s: Those made since stay: their container may be about to be started.
        """
        found = self._engine.images({OWNER: self._owner})
        old = [(path, each) for path, each in self._records() if _age_s(path) >= older_than_s]
        gone = []
        for path, record in old:
            if record.name not in needed and self._remove(record, found):
                path.unlink(missing_ok=True)
                gone.append(record.name)
        return tuple(gone)

    def close(self) -> None:
        """Close the connections to the engine."""
        self._engine.rest()

    def _remove(self, record: _Record, found: Collection[str]) -> bool:
        """Remove an image under all its names, and return whether it is gone."""
        names = [name for name in found if name == record.name or name.endswith(f"/{record.name}")]
        names += [record.pinned] if record.pinned else []
        return all([self._engine.remove_image(name) for name in names])  # noqa: C419 - each of them, whatever the others

    def _begin(self, spec: VariantSpec) -> Future[Image]:
        made: Future[Image] = Future()

        def work() -> None:
            try:
                with self._room:
                    image = self.make(spec)
            except BaseException as error:  # noqa: BLE001 - it is raised again where somebody waits
                made.set_exception(error)
            else:
                made.set_result(image)

        threading.Thread(target=work, name=f"image of {spec.variant}", daemon=True).start()
        return made

    def _present(self, key: str, spec: VariantSpec, *, pulls: bool = True) -> Image | None:
        """Return the recorded image if the engine has it, or its registry; None if there is none yet, or no more."""
        record = self._record(key)
        if record is None:
            return None
        base = self._engine.image(spec.image)
        if base is not None and base.id != record.base_id:
            step = "it was not run; name the image by its digest, or deploy what it is now as a new version"
            raise _changed(spec.image, record.base_id, base.id, step)
        found = self._engine.image(record.name)
        if found is None and record.pinned and pulls:
            self._engine.pull(record.pinned)
            found = self._engine.image(record.pinned)
        if found is None:
            return None
        if found.id != record.id:
            step = "it was not run; remove it from the engine, and it is made again"
            raise _changed(record.name, record.id, found.id, step)
        return _image(record, found)

    def _build(self, key: str, spec: VariantSpec) -> Image:
        base = self._base(spec)
        name = f"taxiway/variant.{_repository(spec.handle)}:{key[:16]}"
        labels = {OWNER: self._owner, "taxiway.handle": spec.handle, "taxiway.inference": spec.image}
        entries = [
            Entry(name="Dockerfile", content=recipe(base.id).encode(), mode=0o644),
            Entry(name="model", path=spec.model_dir, mode=READ_ONLY),
        ]
        with archive.stream(entries) as pieces:
            built = self._engine.build(pieces, name, labels, {}, "none")
        pinned = ""
        if self._registry:
            target = f"{self._registry}/{name}"
            pinned = f"{target.rpartition(':')[0]}@{self._engine.push(name, target)}"
        record = _Record(name=name, id=built, base_id=base.id, pinned=pinned)
        self._save(key, record)
        return _image(record, base)

    def _base(self, spec: VariantSpec) -> Found:
        found = self._engine.image(spec.image)
        if found is None and not spec.image.startswith("sha256:"):
            self._engine.pull(spec.image)
            found = self._engine.image(spec.image)
        if found is None:
            output = (
                f"no inference image {spec.image} on {self._engine.url}; deploy the version again to make it"
            )
            raise ToolFailedError("docker image inspect", 404, output)
        return found

    def _record(self, key: str) -> _Record | None:
        try:
            return _Record(**json.loads((self._folder / f"{key}.json").read_text()))
        except (FileNotFoundError, TypeError, ValueError):
            return None

    def _records(self) -> Iterator[tuple[Path, _Record]]:
        for path in sorted(self._folder.glob("*.json")):
            record = self._record(path.stem)
            if record:
                yield path, record

    def _save(self, key: str, record: _Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f"{key}.{os.getpid()}.tmp"
        scratch.write_text(json.dumps(asdict(record), indent=1) + "\n")
        scratch.replace(self._folder / f"{key}.json")


def recipe(base: str) -> str:
    """Return the Dockerfile of a variant's image; `model/` lies beside it. Whoever the base runs as can read it."""
    return f"FROM {base}\nCOPY model/ {MODEL_DIR}/\nENV TAXIWAY_MODEL_DIR={MODEL_DIR}\n"


def content_hash(folder: Path) -> str:
    """Return the SHA-256 of a folder's files: of their paths and bytes, and of nothing else.

    Raises:
        InvalidSpecError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InvalidSpecError((f"model_dir does not exist: {folder}",), "variant")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _digest([[path.relative_to(folder).as_posix(), _sha256(path)] for path in files])


def _wish(spec: VariantSpec) -> tuple[str, Path]:
    if not spec.image or spec.model_dir is None:
        raise InvalidSpecError(("image and model_dir are needed by a container",), f"variant {spec.variant}")
    return spec.image, spec.model_dir


def _image(record: _Record, found: Found) -> Image:
    is_sealed = found.labels.get(SEALED) == "true"
    return Image(name=record.name, id=record.id, pinned=record.pinned, user=found.user, is_sealed=is_sealed)


def _changed(name: str, recorded: str, found: str, step: str) -> ConflictError:
    return ConflictError(f"image {name}", f"it is {found[:19]}, and {recorded[:19]} was recorded", step)


def _repository(handle: str) -> str:
    """Return a handle as a part of an image's name, which takes no three underscores and none at its end."""
    while "___" in handle:
        handle = handle.replace("___", "__")
    return handle.rstrip("_")


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
