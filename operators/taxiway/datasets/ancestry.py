"""What a dataset version was made of, however far back: versions and their facts, read a dataset at a time.

A dataset that is appended to each day is as deep as it has versions, so nothing here calls itself. What holds for a
version is decided in `cards.py`.
"""

from taxiway.datasets import repository
from taxiway.datasets.facts import Facts, facts_file, read_facts, read_records, records_file
from taxiway.datasets.lookup import get, versions_by_hash, versions_of
from taxiway.datasets.version import DatasetVersion
from taxiway.settings import Settings


class Ancestry:
    """Versions by their tags, and their facts; each dataset is read once, when it is first asked for.

    Args:
        settings: Which data repository.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._versions: dict[str, dict[str, DatasetVersion]] = {}
        self._facts: dict[str, dict[str, Facts]] = {}
        self._by_hash: dict[str, list[DatasetVersion]] | None = None

    def version(self, tag: str) -> DatasetVersion:
        """Return a version by its tag; one that this clone does not know is asked for at the origin.

        Raises:
            DatasetNotFoundError: If there is none.
        """
        name = tag.partition("@")[0]
        known = self._of(name)
        if tag not in known:
            found = get(name, tag, self._settings)
            self._versions.pop(name)
            self._by_hash = None
            known = {found.tag: found, **self._of(name)}
        return known[tag]

    def facts(self, version: DatasetVersion) -> Facts:
        """Return what this clone says of a version that it knows; of another nothing is said."""
        if version.name not in self._facts:
            self._facts[version.name] = self._read(version.name)
        return self._facts[version.name].get(version.tag, Facts(tag=version.tag))

    def under_every_name(self, version: DatasetVersion) -> list[DatasetVersion]:
        """Return a version, and every other one that holds the same bytes, of whichever dataset."""
        return [version, *(each for each in self.holding(version.hash) if each.tag != version.tag)]

    def holding(self, digest: str) -> list[DatasetVersion]:
        """Return the versions of all datasets whose bytes have a hash."""
        if self._by_hash is None:
            root = self._settings.data_repository
            self._by_hash = versions_by_hash(root) if (root / ".git").exists() else {}
        return self._by_hash.get(digest, [])

    def before(self, version: DatasetVersion) -> DatasetVersion | None:
        """Return the version of the same dataset that came before one, if there is one."""
        older = [each for each in self._of(version.name).values() if each.version < version.version]
        return max(older, key=lambda each: each.version, default=None)

    def _of(self, name: str) -> dict[str, DatasetVersion]:
        if name not in self._versions:
            root = self._settings.data_repository
            found = versions_of(root, name) if (root / ".git").exists() else []
            self._versions[name] = {each.tag: each for each in found}
            self._facts.pop(name, None)
        return self._versions[name]

    def _read(self, name: str) -> dict[str, Facts]:
        versions, later = self._of(name), f"HEAD:{records_file(name)}"
        places = {tag: f"{each.commit}:{facts_file(name)}" for tag, each in versions.items()}
        texts = repository.read(self._settings.data_repository, [later, *places.values()]) if versions else {}
        records = read_records(texts.get(later, ""))
        return {
            tag: read_facts(tag, each.hash, texts.get(places[tag], ""), records)
            for tag, each in versions.items()
        }
