"""Reads a model project: a folder with a `pyproject.toml` whose `[tool.taxiway]` tables say what each component is.

Every broken rule is found and reported at once. Nothing is run or imported from the project here; the rules about
its files are in `files.py`, where a project comes from in `checkout.py`.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from taxiway.checkout import Checkout
from taxiway.errors import InvalidNameError, ProjectFaultsError
from taxiway.project import evaluation, files, resources, tuning
from taxiway.project.plain import param_faults
from taxiway.project.sources import source_faults
from taxiway.project.values import KINDS, Component, Project, Sla
from taxiway_serving.names import check_handle

REQUIRED_KINDS = ("training", "inference")
SERVERS = ("bento", "mlflow")
"""What may serve a project's models: a BentoML service of its own, or MLflow's scoring server without any code."""

MOST_AVAILABILITY = 0.999999

# An undo is not among them: the way back is never forbidden.
STRATEGIES = ("canary", "linear", "all_at_once", "blue_green", "bandit", "shadow", "ab")
FORBIDDEN_REASON = "a new version shall meet few users before it meets all of them"

_TABLES = frozenset({"handle", "programs", "sla", "traffic", "tuning", "verification", *KINDS})
_COMPONENT_KEYS = frozenset(
    {
        *("command", "entry_point", "params", "source_models", "files", "group", "threads"),
        *("resources", "dockerfile"),
    }
)
_KEYS = {
    "transform": _COMPONENT_KEYS,
    "training": _COMPONENT_KEYS,
    "evaluation": _COMPONENT_KEYS | evaluation.KEYS,
    "inference": frozenset(
        {
            *("service", "server", "params", "files", "group", "threads"),
            *("resources", "dockerfile", "image"),
        }
    ),
    "sla": frozenset({"p99_ms", "availability", "rate_rps"}),
    "traffic": frozenset({"forbid", "reason"}),
    "tuning": tuning.KEYS,
    "verification": frozenset({"contract"}),
}
# Where a component names no group and none bears its name, it shares the environment of training.
_FALLBACK_GROUP = {"transform": "training", "evaluation": "training"}


def read(checkout: Checkout) -> Project:
    """Read and check the project in a checkout.

    Raises:
        ProjectFaultsError: If it breaks the contract; `.faults` names every broken rule.
    """
    path = checkout.root / "pyproject.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ProjectFaultsError(str(checkout.root), ("pyproject.toml is missing",)) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ProjectFaultsError(str(checkout.root), (f"pyproject.toml is not TOML: {exc}",)) from exc
    except OSError as exc:
        raise ProjectFaultsError(
            str(checkout.root), (f"pyproject.toml cannot be read: {exc.strerror}",)
        ) from exc
    return _Reader(checkout, document).read()


class _Reader:
    """Walks one document and gathers faults on the way; used once."""

    def __init__(self, checkout: Checkout, document: dict[str, Any]) -> None:
        self.checkout = checkout
        self.candidates = files.candidates(checkout.root, checkout.files)
        self.faults: list[str] = []
        self.document = document
        self.metadata = self.table(document, "project", "[project]")
        tool = self.table(document, "tool", "[tool]")
        if "taxiway" not in tool:
            self.faults.append("[tool.taxiway] is missing")
        self.taxiway = self.table(tool, "taxiway", "[tool.taxiway]")

    def read(self) -> Project:
        self.unknown("tool.taxiway", self.taxiway, _TABLES)
        project = Project(
            checkout=self.checkout,
            handle=self.handle(),
            name=self.text(self.metadata, "name", "[project] name"),
            requires_python=self.python(),
            components=self.components(),
            sla=self.sla(),
            tuning=self.tuning(),
            traffic=self.traffic(),
            contract=self.contract(),
            programs=self.programs(),
        )
        if self.faults:
            raise ProjectFaultsError(str(self.checkout.root), tuple(dict.fromkeys(self.faults)))
        return project

    def table(self, parent: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
        value = parent.get(key, {})
        if isinstance(value, dict):
            return value
        self.faults.append(f"{where} must be a table, got {type(value).__name__}")
        return {}

    def text(self, parent: Mapping[str, Any], key: str, where: str) -> str:
        value = parent.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self.faults.append(f"{where} must be a text, got {value!r}")
        return ""

    def texts(self, parent: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = parent.get(key, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.faults.append(f"{where}.{key} must be a list of texts, got {value!r}")
        return ()

    def number(self, parent: Mapping[str, Any], key: str, where: str, low: float, high: float) -> float:
        value = parent.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high:
            return float(value)
        self.faults.append(f"{where}.{key} must be a number in ({low:g}, {high:g}], got {value!r}")
        return high

    def unknown(self, where: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
        for key in sorted(set(table) - known):
            self.faults.append(f"[{where}] has an unknown key {key!r}; known: {', '.join(sorted(known))}")

    def handle(self) -> str:
        try:
            return check_handle(self.text(self.taxiway, "handle", "[tool.taxiway] handle"))
        except InvalidNameError as exc:
            self.faults.append(f"[tool.taxiway] {exc}")
            return ""

    def python(self) -> str:
        value = self.text(self.metadata, "requires-python", "[project] requires-python")
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            self.faults.append(f"[project] requires-python is no version specifier: {value!r}")
        return value

    def sla(self) -> Sla:
        if "sla" not in self.taxiway:
            self.faults.append(
                "[tool.taxiway.sla] is missing; it must give p99_ms, availability and rate_rps"
            )
            return Sla(p99_ms=1, availability=1, rate_rps=1)
        where, table = "[tool.taxiway.sla]", self.table(self.taxiway, "sla", "[tool.taxiway.sla]")
        self.unknown("tool.taxiway.sla", table, _KEYS["sla"])
        return Sla(
            p99_ms=self.number(table, "p99_ms", where, 0, 600_000),
            availability=self.number(table, "availability", where, 0, MOST_AVAILABILITY),
            rate_rps=self.number(table, "rate_rps", where, 0, 1_000_000),
        )

    def tuning(self) -> Mapping[str, Any]:
        table = self.table(self.taxiway, "tuning", "[tool.taxiway.tuning]")
        self.unknown("tool.taxiway.tuning", table, _KEYS["tuning"])
        if table:
            self.faults += tuning.faults(table)
        return table

    def traffic(self) -> Mapping[str, Any]:
        where, table = "[tool.taxiway.traffic]", self.table(self.taxiway, "traffic", "[tool.taxiway.traffic]")
        self.unknown("tool.taxiway.traffic", table, _KEYS["traffic"])
        forbidden = self.texts(table, "forbid", where)
        self.faults += [
            f"{where}.forbid names {name!r}; known: {', '.join(STRATEGIES)}"
            for name in forbidden
            if name not in STRATEGIES
        ]
        if not forbidden:
            return {}
        reason = self.text(table, "reason", f"{where}.reason") if "reason" in table else FORBIDDEN_REASON
        return {"forbid": list(forbidden), "reason": reason}

    def contract(self) -> str | None:
        table = self.table(self.taxiway, "verification", "[tool.taxiway.verification]")
        self.unknown("tool.taxiway.verification", table, _KEYS["verification"])
        if not table:
            return None
        name = self.text(table, "contract", "[tool.taxiway.verification].contract")
        return Path(name).as_posix() if name else None

    def programs(self) -> tuple[str, ...]:
        found = self.texts(self.taxiway, "programs", "[tool.taxiway]")
        self.faults += [
            f"[tool.taxiway].programs has {name!r}; name a program without its folder and its arguments"
            for name in found
            if not name or set(name) & set("/ \t\n")
        ]
        return tuple(dict.fromkeys(found))

    def components(self) -> Mapping[str, Component]:
        mlproject = files.read_mlproject(self.checkout.root, self.faults)
        found = {}
        for kind in KINDS:
            if kind in self.taxiway or (kind == "training" and mlproject):
                table = self.table(self.taxiway, kind, f"[tool.taxiway.{kind}]")
                found[kind] = self.component(kind, table, mlproject if kind == "training" else {})
            elif kind in REQUIRED_KINDS:
                self.faults.append(f"[tool.taxiway.{kind}] is missing")
        return found

    def component(self, kind: str, table: Mapping[str, Any], mlproject: Mapping[str, Any]) -> Component:
        where = f"[tool.taxiway.{kind}]"
        self.unknown(f"tool.taxiway.{kind}", table, _KEYS[kind])
        command, defaults = self.command(kind, table, mlproject)
        params = self.table(table, "params", f"{where}.params")
        threads = table.get("threads", 1)
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            self.faults.append(f"{where}.threads must be a whole number from 1, got {threads!r}")
        packed = self.files(kind, table, where)
        server = self.server(table, where) if kind == "inference" else None
        service = self.text(table, "service", f"{where}.service") if server == "bento" else None
        self.faults += files.source_faults(self.checkout.root, packed, where, command, service)
        self.faults += param_faults(defaults | params, where)
        if kind == "evaluation":
            self.faults += evaluation.bar_faults(table)
        limits = self.table(table, "resources", f"{where}.resources")
        self.faults += resources.faults(limits, where)
        self.faults += resources.dockerfile_faults(table.get("dockerfile"), packed, where)
        self.faults += resources.image_faults(table, where)
        return Component(
            kind=kind,
            command=command,
            service=service,
            params=defaults | params,
            source_models=self.source_models(table, where),
            files=packed,
            requirements=self.requirements(kind, table),
            threads=threads if isinstance(threads, int) else 1,
            resources=limits,
            dockerfile=table.get("dockerfile"),
            image=table.get("image"),
            options={key: table[key] for key in sorted({*evaluation.KEYS, "server"}) if key in table},
        )

    def server(self, table: Mapping[str, Any], where: str) -> str:
        """Return what serves the models: code of the project, or a model server that needs none."""
        server = table.get("server", "bento")
        if server not in SERVERS:
            self.faults.append(f"{where}.server must be one of {', '.join(SERVERS)}, got {server!r}")
        elif server != "bento" and "service" in table:
            self.faults.append(f"{where} has a service, which {server} does not run; leave one of them out")
        return str(server)

    def files(self, kind: str, table: Mapping[str, Any], where: str) -> tuple[str, ...]:
        root, patterns = self.checkout.root, self.texts(table, "files", where)
        is_without_code = kind == "inference" and table.get("server", "bento") != "bento" and not patterns
        found = () if is_without_code else files.select(root, self.candidates, patterns, where, self.faults)
        contract = self.contract() if kind == "inference" else None
        if contract is None:
            return found
        extra = files.contract_files(root, self.candidates, contract, self.faults)
        return tuple(sorted({*found, *extra}))

    def source_models(self, table: Mapping[str, Any], where: str) -> tuple[str, ...]:
        found = self.texts(table, "source_models", where)
        self.faults += source_faults(found, where)
        return found

    def command(
        self, kind: str, table: Mapping[str, Any], mlproject: Mapping[str, Any]
    ) -> tuple[str | None, dict[str, Any]]:
        where = f"[tool.taxiway.{kind}]"
        if kind == "inference":
            return None, {}
        if "command" in table or not mlproject:
            return self.text(table, "command", f"{where}.command"), {}
        name = table.get("entry_point", "main")
        if not isinstance(name, str) or name not in mlproject:
            self.faults.append(
                f"MLproject has no entry point {name!r}; known: {', '.join(sorted(mlproject))}"
            )
            return "", {}
        command, defaults = mlproject[name]
        return command, dict(defaults)

    def requirements(self, kind: str, table: Mapping[str, Any]) -> tuple[str, ...]:
        groups = self.table(self.document, "dependency-groups", "[dependency-groups]")
        name = table.get("group", kind)
        if "group" not in table and kind not in groups:
            name = _FALLBACK_GROUP.get(kind, kind)
        found = list(self.texts(self.metadata, "dependencies", "[project]"))
        if not isinstance(name, str) or name not in groups:
            self.faults.append(f"[dependency-groups] has no group {name!r}, which {kind} needs")
        else:
            found += self.group(groups, name, ())
        for text in found:
            try:
                Requirement(text)
            except InvalidRequirement:
                self.faults.append(f"{text!r} in the dependencies of {kind} is no requirement")
        return tuple(dict.fromkeys(found))

    def group(self, groups: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        if not isinstance(groups[name], list):
            self.faults.append(f"[dependency-groups] {name} must be a list, got {groups[name]!r}")
            return found
        for item in groups[name]:
            included = item.get("include-group") if isinstance(item, dict) else None
            if isinstance(item, str):
                found.append(item)
            elif isinstance(included, str) and included in groups and included not in (*seen, name):
                found += self.group(groups, included, (*seen, name))
            else:
                self.faults.append(f"[dependency-groups] {name} has an entry that cannot be read: {item!r}")
        return found
