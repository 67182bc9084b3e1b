"""Shows an explanation as a tree of text. Nothing is read here."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from taxiway.lineage.explaining import Explanation, Serving
from taxiway.lineage.graph import WORDS, Edge, Node
from taxiway.trace import Trace

INDENT, DIGEST = "  ", 12
MOST_VERDICT = 200
"""Length from which a verdict is cut where it is one of many lines."""


def render(explanation: Explanation) -> str:
    """Return an explanation as text: the subject and its facts, what it was made of, what became of it."""
    subject = explanation.subject
    lines = [subject.id, *(f"{INDENT}{line}" for line in facts_of(subject))]
    if explanation.up:
        lines += ["", "Made of:", *_branches(explanation, explanation.up, is_up=True)]
    if explanation.down:
        lines += ["", "What became of it:", *_branches(explanation, explanation.down, is_up=False)]
    if explanation.notes:
        lines += ["", *(f"Note: {note}" for note in explanation.notes)]
    return "\n".join(lines)


def render_serving(what: str, found: Sequence[Serving]) -> str:
    """Return which endpoints serve what something went into, as text."""
    if not found:
        return f"no endpoint serves what {what} went into"
    return "\n".join(
        f"{one.endpoint} serves version {one.version} to {one.weight_pct:g} % of its traffic ({one.phase}): "
        + " > ".join(one.path)
        for one in found
    )


def _branches(explanation: Explanation, edges: Sequence[Edge], *, is_up: bool) -> Iterator[str]:
    """Yield the lines of one direction: each node with its branches once, where it is met first."""
    by_near: dict[str, list[Edge]] = {}
    for edge in edges:
        by_near.setdefault(edge.child if is_up else edge.parent, []).append(edge)
    shown = {explanation.subject.id}

    def branch(name: str, depth: int) -> Iterator[str]:
        for edge in by_near.get(name, []):
            other = edge.parent if is_up else edge.child
            node = explanation.nodes.get(other)
            extra = "" if other in shown else _brief(node)
            yield f"{INDENT * depth}{WORDS[edge.kind][0 if is_up else 1]} {_short(other)}{_of_edge(edge)}{extra}"
            if other not in shown:
                shown.add(other)
                yield from branch(other, depth + 1)
        for (parent, kind), count in explanation.left_out.items():
            if not is_up and parent == name:
                yield f"{INDENT * depth}{WORDS[kind][1]} {count} more, older ones"

    yield from branch(explanation.subject.id, 1)


def _short(name: str) -> str:
    """Return a name with as much of a digest as tells it from others; `explain` takes it so, too."""
    head, at, digest = name.rpartition("@")
    return f"{head}{at}{digest[:DIGEST]}" if len(digest) == 64 else name


def _of_edge(edge: Edge) -> str:
    if "said_at" in edge.facts:
        return f" (made again, said {edge.facts['said_at']} by {edge.facts['by']})"
    if "weight_pct" not in edge.facts:
        return ""
    return f" at {edge.facts['weight_pct']:g} % ({edge.facts['phase']})"


def _brief(node: Node | None) -> str:
    """Return the facts of a node that belong on its line."""
    if node is None:
        return " (not known)"
    facts = node.facts
    words: list[str] = []
    if node.kind == "data" and facts.get("files") is not None:
        words = [f"{facts['files']} files", f"{facts.get('size_bytes', 0)} bytes", str(facts.get("hash", ""))]
    if node.kind == "code":
        words = _code_words(node)
    if node.kind == "library" and facts.get("task"):
        words = [f"for {facts['task']}"]
    if node.kind == "model" and facts.get("untraceable"):
        words = ["untraceable"]
    if node.kind == "evaluation":
        by = f", said by {facts['said_by']}" if facts.get("said_by") else ""
        what = f"{facts['model']} on {facts['dataset']} by {_short(facts['check'])}"
        return f" ({what}: {_cut(facts['verdict'])}{by})"
    return f" ({', '.join(words)})" if words else ""


def _cut(verdict: str) -> str:
    return verdict if len(verdict) <= MOST_VERDICT else f"{verdict[:MOST_VERDICT]}…"


def _code_words(node: Node) -> list[str]:
    commit = node.facts.get("commit")
    if not commit:
        return ["no Git commit"]
    dirty = ["dirty: its difference is kept beside it"] if node.facts.get("is_dirty") else []
    return [f"commit {commit[:12]}", *dirty]


def facts_of(node: Node) -> list[str]:
    """Return what is known of a node, one fact a line."""
    facts = node.facts
    lines = [
        f"{name}: {_value(facts[name])}"
        for name in facts
        if name not in ("trace", "untraceable") and facts[name]
    ]
    if node.at_s:
        made = datetime.fromtimestamp(node.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lines.insert(0, f"made: {made}" if node.kind != "request" else f"at: {made}")
    if node.kind == "model":
        lines += _trace_lines(facts.get("trace"))
        lines += [f"UNTRACEABLE: {reason}" for reason in facts.get("untraceable", ())]
    return lines


def _trace_lines(found: dict[str, object] | None) -> list[str]:
    if not found:
        return ["what it read: nobody watched"]
    trace = Trace.from_json(found)
    counts = ", ".join(f"{count} of {kind}" for kind, count in sorted(trace.read.items()))
    lines = [f"code that ran: {trace.source_hash}", f"files read ({trace.method}): {counts or 'none'}"]
    lines += [f"hosts asked for: {', '.join(trace.hosts)}"] if trace.hosts else []
    return lines + [f"not seen: {reason}" for reason in trace.unseen]


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_value(each)}" for name, each in value.items() if each not in ("", None, {})
        )
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
