"""The picture of an explanation: boxes from what it was made of, on the left, to what became of it, on the right.

Drawn by matplotlib, from the values of `explaining.py`; nothing is read here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.arguments import typed
from taxiway.errors import InvalidSpecError
from taxiway.lineage.explaining import Explanation
from taxiway.lineage.graph import WORDS, Edge, Node

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
MOST_BOXES = 60
LONGEST_NAME = 36
WIDTH_IN, HEIGHT_IN = 3.6, 0.75
# Told apart with any colour vision: Okabe and Ito (2008), "Color universal design".
COLOURS = {
    "model": "#56B4E9",
    "data": "#E69F00",
    "code": "#009E73",
    "library": "#0072B2",
    "run": "#BBBBBB",
    "evaluation": "#E5E5E5",
    "endpoint": "#CC79A7",
    "request": "#F0E442",
}
UNKNOWN, BROKEN = "#FFFFFF", "#D55E00"


@typed
def plot(explanation: Explanation, path: Path | str) -> Path:
    """Draw an explanation into a file that ends in `.png`, `.svg` or `.pdf`; one that is there is replaced.

    Raises:
        InvalidSpecError: If the name ends otherwise.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        fault = f"path: {path.name} ends in {path.suffix!r}; it must end in {', '.join(SUFFIXES)}"
        raise InvalidSpecError((fault,), "plot")
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # Text stays text, so that a browser finds it.
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(explanation).savefig(path, dpi=144, bbox_inches="tight")
    return path


def draw(explanation: Explanation) -> "Figure":
    """Return the picture as a figure of matplotlib's."""
    from matplotlib.figure import Figure

    places = layout(explanation)
    columns = {x for x, _ in places.values()}
    rows = max(sum(1 for x, _ in places.values() if x == column) for column in columns)
    figure = Figure(figsize=(WIDTH_IN * len(columns), max(1.5, HEIGHT_IN * rows)))
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(min(columns) - 0.5, max(columns) + 0.5)
    axes.set_ylim(-rows / 2 - 0.5, rows / 2 + 0.5)
    boxes = {
        name: _box(axes, name, explanation.nodes.get(name), place, is_subject=name == explanation.subject.id)
        for name, place in places.items()
    }
    drawn = dict.fromkeys((*_ends(edge), edge.kind) for edge in (*explanation.up, *explanation.down))
    for child, parent, kind in drawn:
        if child in places and parent in places:
            ends = {"patchA": boxes[child], "patchB": boxes[parent]}
            _arrow(axes, places[child], places[parent], WORDS[kind][0], ends)
    return figure


def _ends(edge: Edge) -> tuple[str, str]:
    """Return both ends of an edge, in one order where it says the same of either."""
    if edge.kind == "same_bytes":
        return min(edge.child, edge.parent), max(edge.child, edge.parent)
    return edge.child, edge.parent


def layout(explanation: Explanation) -> dict[str, tuple[float, float]]:
    """Return where each box stands: a column for each step away from the subject, the first `MOST_BOXES` of them."""
    start = explanation.subject.id
    columns = _steps(start, explanation.up, lambda edge: (edge.child, edge.parent), -1)
    columns |= _steps(start, explanation.down, lambda edge: (edge.parent, edge.child), 1)
    by_column: dict[int, list[str]] = defaultdict(list)
    for name, column in list(columns.items())[:MOST_BOXES]:
        by_column[column].append(name)
    return {
        name: (float(column), (len(names) - 1) / 2 - row)
        for column, names in by_column.items()
        for row, name in enumerate(names)
    }


def _steps(
    start: str, edges: Iterable[Edge], ends: Callable[[Edge], tuple[str, str]], step: int
) -> dict[str, int]:
    found = {start: 0}
    for edge in edges:
        near, far = ends(edge)
        # What holds the same bytes is neither before nor after it.
        found.setdefault(far, found.get(near, 0) + (0 if edge.kind == "same_bytes" else step))
    return found


def _arrow(
    axes: "Axes", child: tuple[float, float], parent: tuple[float, float], word: str, ends: Mapping[str, Any]
) -> None:
    style = {"arrowstyle": "->", "color": "#555555", **ends}
    axes.annotate("", xy=parent, xytext=child, arrowprops=style)
    middle = ((child[0] + parent[0]) / 2, (child[1] + parent[1]) / 2)
    white = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    axes.text(*middle, word, fontsize=6, color="#555555", ha="center", va="center", bbox=white)


def _box(axes: "Axes", name: str, node: Node | None, place: tuple[float, float], *, is_subject: bool) -> Any:
    facts: Mapping[str, object] = node.facts if node else {}
    edge = BROKEN if node is None or facts.get("untraceable") else "#000000" if is_subject else "#777777"
    box = {
        "boxstyle": "round,pad=0.4",
        "facecolor": COLOURS[node.kind] if node else UNKNOWN,
        "edgecolor": edge,
        "linewidth": 2.0 if is_subject else 1.0,
    }
    label = f"{_short(name)}\n{_said(node)}"
    return axes.text(*place, label, fontsize=7, ha="center", va="center", bbox=box).get_bbox_patch()


def _said(node: Node | None) -> str:
    """Return the second line of a box: what it is, and what matters most of it."""
    if node is None:
        return "not known"
    if node.kind == "evaluation":
        return f"on {node.facts['dataset']}: {_short(node.facts['verdict'])}"
    return f"{node.kind}, untraceable" if node.facts.get("untraceable") else node.kind


def _short(name: str) -> str:
    """Return a name that fits its box: 12 characters of a digest or a run's id are enough, and a number is kept."""
    head, at, digest = name.rpartition("@")
    cut = f"{head}{at}{digest[:12]}" if len(digest) in (32, 64) else name
    half = LONGEST_NAME // 2
    return cut if len(cut) <= LONGEST_NAME else f"{cut[:half]}…{cut[-half:]}"
