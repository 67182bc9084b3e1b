"""DVC's configuration of the data repository: what Taxiway sets in it, and what it reads from it.

Written as DVC writes it, because each of DVC's commands costs a process start. Every key that a team set itself stays.
No process is started here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from taxiway.settings import Settings
from taxiway.tools import redact, write_atomically

REMOTE = "store"
CONFIG, SECRETS, IGNORED, DVC_IGNORE = ".dvc/config", ".dvc/config.local", ".dvc/.gitignore", ".dvcignore"
DRAFT = "taxiway-draft"
FILES = {
    CONFIG: "",
    IGNORED: "/config.local\n/tmp\n/cache\n",
    DVC_IGNORE: "# Patterns of files that DVC shall not see, as in a .gitignore.\n",
}
"""What makes a Git repository one of DVC's, with the text of a new one."""

# Hard links first: where a file system has no reflinks, trying them makes checking out five times slower.
_OURS = {"core": {"analytics": "false", "check_update": "false"}, "cache": {"type": '"hardlink,copy"'}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where the bytes are pushed to.

    Attributes:
        name: As DVC's configuration calls it.
        folder: A folder that this host reaches, or None for one that only DVC reaches.
    """

    name: str
    folder: Path | None


def wanted(root: Path, settings: Settings) -> dict[str, str]:
    """Return what the files of DVC should hold: their text of now with what Taxiway needs set in it."""
    found = {name: _read(root / name) or text for name, text in FILES.items()}
    if not _read(root / CONFIG):
        found[CONFIG] = with_values(found[CONFIG], _OURS)
    url, before = settings.data_remote, found[CONFIG]
    if url is not None and ("remote = " not in before or f"remote = {REMOTE}\n" in before):
        found[CONFIG] = with_values(
            before, {"core": {"remote": REMOTE}, _section(REMOTE): {"url": redact(url)}}
        )
    return found


def keep_secret(root: Path, settings: Settings) -> None:
    """Put a remote's address that carries credentials where DVC keeps secrets: read by nobody else, ignored by Git."""
    url = settings.data_remote
    if url is not None and redact(url) != url:
        path = root / SECRETS
        before = _read(path)
        text = with_values(before, {_section(REMOTE): {"url": url}})
        if text != before:
            put(root, SECRETS, text, mode=0o600)


def put(root: Path, name: str, text: str, *, mode: int = 0o644) -> None:
    """Replace a file of the working tree in one step; what a killed process leaves of it, Git does not see."""
    draft = root / ".git" / DRAFT
    write_atomically(draft, text, mode=mode)
    (root / name).parent.mkdir(exist_ok=True)
    draft.replace(root / name)


def remote(root: Path) -> Remote | None:
    """Return the remote that DVC would push to, or None where none is named."""
    name = value(root, "core", "remote")
    if not name:
        return None
    url = value(root, _section(name), "url")
    has_scheme = "://" in url and urlsplit(url).scheme != "file"
    path = Path(url.removeprefix("file://")).expanduser()
    # DVC reads a relative path from the folder of its configuration.
    return Remote(name=name, folder=None if has_scheme else (root / ".dvc" / path).resolve())


def cache_folder(root: Path) -> Path:
    """Return the folder of DVC's cache, which a team may share between repositories."""
    named = value(root, "cache", "dir")
    return (root / ".dvc" / Path(named).expanduser()).resolve() if named else root / ".dvc" / "cache"


def value(root: Path, section: str, key: str) -> str:
    """Return what DVC's configuration says, the secret file over the shared one, or nothing."""
    for path in (root / SECRETS, root / CONFIG):
        lines = _read(path).splitlines()
        place = _find(lines, f"[{section}]", key)
        if place is not None:
            return lines[place].partition("=")[2].strip().strip("\"'")
    return ""


def with_values(text: str, wanted: Mapping[str, Mapping[str, str]]) -> str:
    """Return a configuration's text with these keys of these sections set; every other line stays as it is."""
    lines = text.splitlines()
    for section, values in wanted.items():
        for key, value in values.items():
            _set(lines, f"[{section}]", key, value)
    return "\n".join(lines) + "\n"


def _section(name: str) -> str:
    return f"'remote \"{name}\"'"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _set(lines: list[str], header: str, key: str, value: str) -> None:
    place = _find(lines, header, key)
    if place is not None:
        lines[place] = f"    {key} = {value}"
        return
    if header not in [line.strip() for line in lines]:
        lines.append(header)
    lines.insert(_extent(lines, header).stop, f"    {key} = {value}")


def _find(lines: list[str], header: str, key: str) -> int | None:
    extent = _extent(lines, header)
    return next((place for place in extent if lines[place].partition("=")[0].strip() == key), None)


def _extent(lines: list[str], header: str) -> range:
    """Return which lines belong to a section; none where there is no such section."""
    titles = [line.strip() for line in lines]
    if header not in titles:
        return range(0)
    start = titles.index(header) + 1
    end = next((place for place in range(start, len(lines)) if titles[place].startswith("[")), len(lines))
    return range(start, end)
