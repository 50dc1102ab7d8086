"""The graphs of what each printed proof uses, as Mermaid for LEDGER.md and as SVG for the report.

One picture of everything would be illegible, so there is one for each end of the paper's chains of proofs and for each
statement on which much rests.  Where such a statement occurs elsewhere, it is drawn without what lies below it.  Shape
and text carry the meaning, not colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from textwrap import wrap

from proofs_checks.registry import Entry, Statement, Verdict

CITED = "cited"
SHAPES: Mapping[str, tuple[str, str, str]] = {
    "proved": ("[[", "]]", "box with double sides"),
    "certified": ("([", "])", "box with round ends"),
    "sampled": ("(", ")", "box with rounded corners"),
    "open": ("{{", "}}", "hexagon"),
    CITED: ("[", "]", "plain box"),
}
"""For each kind of node: its brackets in Mermaid, and its shape in words."""


@dataclass(frozen=True)
class Picture:
    """What is drawn together: the statements in the order of the paper, and the arrows between them."""

    title: str
    goals: tuple[str, ...]
    names: tuple[str, ...]
    arrows: tuple[tuple[str, str], ...]
    """Pairs (used, user)."""
    drawn_elsewhere: frozenset[str]
    """Statements that have a picture of their own."""


def pictures(statements: Mapping[str, Statement]) -> tuple[Picture, ...]:
    """Split the graph: every arrow is in at least one picture."""
    used = Counter(name for statement in statements.values() for name in statement.uses)
    below = {name: _below(statements, name, frozenset()) for name in statements}
    hubs = frozenset(name for name in statements if used[name] >= 2 and len(below[name]) >= 5)
    ends = [name for name, statement in statements.items() if statement.uses and not used[name]]
    made: dict[frozenset[str], list[str]] = {}
    for goal in [name for name in statements if name in hubs or name in ends]:
        made.setdefault(frozenset(_below(statements, goal, hubs)), []).append(goal)
    large = {under: goals for under, goals in made.items() if len(under) > _SHORT}
    found = [_picture(statements, goals, under, hubs) for under, goals in large.items()]
    rest = [(goals, under) for under, goals in made.items() if under not in large]
    if rest:
        goals = [goal for some, _ in rest for goal in some]
        under = frozenset().union(*(under for _, under in rest))
        found.append(replace(_picture(statements, goals, under, hubs), title="Shorter chains"))
    return tuple(found)


_SHORT = 3
"""Chains of proofs with at most so many statements below the end share one picture."""


def _picture(
    statements: Mapping[str, Statement], goals: Sequence[str], under: frozenset[str], hubs: frozenset[str]
) -> Picture:
    names = tuple(name for name in statements if name in under or name in goals)
    leaves = hubs - set(goals)
    arrows = tuple((name, user) for user in names if user not in leaves for name in statements[user].uses)
    title = ", ".join(statements[name].ref for name in goals)
    return Picture(title, tuple(goals), names, arrows, leaves & under)


def components(picture: Picture) -> list[Picture]:
    """Split a picture into parts that no arrow joins."""
    near: dict[str, set[str]] = {name: {name} for name in picture.names}
    for name, user in picture.arrows:
        joined = near[name] | near[user]
        for other in joined:
            near[other] = joined
    parts = {id(part): part for part in near.values()}
    return [
        Picture(
            picture.title,
            tuple(name for name in picture.goals if name in part),
            tuple(name for name in picture.names if name in part),
            tuple(arrow for arrow in picture.arrows if arrow[0] in part),
            picture.drawn_elsewhere & part,
        )
        for part in parts.values()
    ]


def _below(statements: Mapping[str, Statement], name: str, hubs: frozenset[str]) -> set[str]:
    """Return what the proof of ``name`` rests on; what lies below a hub is left out."""
    found: set[str] = set()
    waiting = list(statements[name].uses)
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += statements[other].uses if other not in hubs else ()
    return found


def kind(entry: Entry) -> str:
    """Return what the shape of an entry says: its own grade, or that it is taken from a book."""
    return CITED if entry.statement.cited else entry.own.name.lower()


def label(entry: Entry, picture: Picture) -> tuple[list[str], list[str]]:
    """Return the lines of a node's name, and the lines below it."""
    below = [f"{kind(entry)}, printed: fails" if entry.printed is Verdict.FAILS else kind(entry)]
    below += ["(see its own picture)"] if entry.statement.id in picture.drawn_elsewhere else []
    return wrap(entry.statement.ref, 20), below


def legend(found: Mapping[str, Entry]) -> list[tuple[str, str, int]]:
    """Return each kind of node that occurs in a graph: its name, its shape in words, how many there are."""
    linked = {
        name for entry in found.values() for name in (*entry.statement.uses, entry.statement.id) if entry.statement.uses
    }
    count = Counter(kind(found[name]) for name in linked)
    return [(name, shape, count[name]) for name, (_, _, shape) in SHAPES.items() if count[name]]


# ---- Mermaid ----------------------------------------------------------------------------------------------------


def mermaid(found: Mapping[str, Entry], picture: Picture) -> str:
    """Return one picture in Mermaid."""
    lines = ["flowchart TD"]
    for name in picture.names:
        left, right, _ = SHAPES[kind(found[name])]
        title, below = label(found[name], picture)
        lines.append(f'  {name}{left}"{"<br/>".join([*title, *below])}"{right}')
    return "\n".join([*lines, *(f"  {name} --> {user}" for name, user in picture.arrows)])


# ---- SVG --------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, _GAP, _DROP = 164, 60, 16, 36


def svg(found: Mapping[str, Entry], picture: Picture, *, link: bool = True) -> str:
    """Return one picture as SVG, what is used above what uses it; colours are those of the text around it."""
    places, width, height, routes = layout(picture)
    title = escape(f"What rests on what: {picture.title}")
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">',
        f"<title>{title}</title>",
    ]
    for route in routes:
        parts.append(f'<path class="arrow" d="{_curve(route)}"/>')
        x, y = route[-1]
        parts.append(f'<path class="tip" d="M{x - 4} {y - 8}L{x} {y}L{x + 4} {y - 8}Z"/>')
    for name, (x, y) in places.items():
        node = node_svg(kind(found[name]), x, y, *label(found[name], picture))
        parts.append(f'<a href="#{name}">{node}</a>' if link else node)
    return "".join([*parts, "</svg>"])


def node_svg(shape: str, x: float, y: float, title: Sequence[str], below: Sequence[str] = ()) -> str:
    """Return a node with its middle at (x, y)."""
    w, h = WIDTH, HEIGHT
    left, top = x - w / 2, y - h / 2
    box = f'<rect x="{left}" y="{top}" width="{w}" height="{h}" rx="{{}}"/>'
    if shape == "certified":
        body = box.format(24)
    elif shape == "sampled":
        body = box.format(10).replace("<rect", '<rect class="dashed"')
    elif shape == "open":
        corners = [
            (left + 14, top),
            (left + w - 14, top),
            (left + w, y),
            (left + w - 14, top + h),
            (left + 14, top + h),
            (left, y),
        ]
        body = f'<polygon class="dashed" points="{" ".join(f"{a},{b}" for a, b in corners)}"/>'
    else:
        body = box.format(0)
        if shape == "proved":
            body += f'<path d="M{left + 6} {top}v{h}M{left + w - 6} {top}v{h}"/>'
    lines = [("name", line) for line in title] + [("below", line) for line in below]
    first = y - 7.5 * (len(lines) - 1) + 4
    spans = "".join(
        f'<text class="{part}" x="{x}" y="{first + 15 * i}">{escape(line)}</text>'
        for i, (part, line) in enumerate(lines)
    )
    return f'<g class="node">{body}{spans}</g>'


def _curve(route: Sequence[tuple[float, float]]) -> str:
    text = f"M{route[0][0]} {route[0][1]}"
    for (x0, y0), (x1, y1) in pairwise(route):
        middle = (y0 + y1) / 2
        text += f"C{x0} {middle} {x1} {middle} {x1} {y1}"
    return text


def layout(
    picture: Picture,
) -> tuple[dict[str, tuple[float, float]], int, int, list[list[tuple[float, float]]]]:
    """Place the nodes in rows (Sugiyama: longest paths, a waypoint in each row that an arrow crosses, barycentres)."""
    row = dict.fromkeys(picture.names, 0)
    for _ in picture.names:  # longest paths: as many rounds as there are nodes are enough
        for name, user in picture.arrows:
            row[user] = max(row[user], row[name] + 1)
    users: dict[str, list[str]] = {name: [] for name in picture.names}
    for name, user in picture.arrows:
        users[name].append(user)
    for name in sorted(picture.names, key=lambda n: -row[n]):  # pull sources down to what uses them
        if users[name]:
            row[name] = min(row[user] for user in users[name]) - 1
    _narrow(row, {user for _, user in picture.arrows})
    rows: list[list[str]] = [[] for _ in range(max(row.values()) + 1)]
    for name in picture.names:
        rows[row[name]].append(name)
    chains = []
    for name, user in picture.arrows:
        chain = [name]
        for level in range(row[name] + 1, row[user]):
            chain.append(f"{name} -> {user} @ {level}")
            rows[level].append(chain[-1])
        chains.append([*chain, user])
    _order(rows, chains)
    places, width = _coordinates(rows, chains)
    routes = []
    for chain in chains:
        route = [(places[chain[0]][0], places[chain[0]][1] + HEIGHT / 2)]
        for waypoint in chain[1:-1]:
            x, y = places[waypoint]
            route += [(x, y - HEIGHT / 2), (x, y + HEIGHT / 2)]
        routes.append([*route, (places[chain[-1]][0], places[chain[-1]][1] - HEIGHT / 2)])
    height = len(rows) * (HEIGHT + _DROP)
    real = set(picture.names)
    return {name: at for name, at in places.items() if name in real}, width, height, routes


_MOST = 5
"""Nodes side by side, if some can go higher."""


def _narrow(row: dict[str, int], has_arrow: set[str]) -> None:
    """Move statements whose proof uses nothing out of rows that are too wide, one row up."""
    for level in range(max(row.values()), 0, -1):
        free = [name for name in row if row[name] == level and name not in has_arrow]
        for name in free[: max(0, sum(at == level for at in row.values()) - _MOST)]:
            row[name] -= 1


def _neighbours(chains: Sequence[Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for chain in chains:
        for first, second in pairwise(chain):
            below.setdefault(first, []).append(second)
            above.setdefault(second, []).append(first)
    return above, below


def _order(rows: list[list[str]], chains: Sequence[Sequence[str]]) -> None:
    """Sort each row by the mean position of the neighbours, downwards and upwards in turn."""
    above, below = _neighbours(chains)
    for sweep in range(24):
        side = above if sweep % 2 == 0 else below
        for level in rows if sweep % 2 == 0 else rows[::-1]:
            at = {name: i / max(1, len(r) - 1) for r in rows for i, name in enumerate(r)}

            def mean(name: str, at: Mapping[str, float] = at, side: Mapping[str, list[str]] = side) -> float:
                near = side.get(name, [])
                return sum(at[other] for other in near) / len(near) if near else at[name]

            level.sort(key=mean)


def _coordinates(
    rows: Sequence[Sequence[str]], chains: Sequence[Sequence[str]]
) -> tuple[dict[str, tuple[float, float]], int]:
    """Return the middles of nodes and waypoints: as close to their neighbours as the order and the gaps allow."""
    above, below = _neighbours(chains)
    need = {name: 24.0 if "@" in name else float(WIDTH) for row in rows for name in row}
    width = max(sum(need[name] + _GAP for name in row) for row in rows) + _GAP
    x: dict[str, float] = {}
    for row in rows:
        at = (width - sum(need[name] + _GAP for name in row) + _GAP) / 2
        for name in row:
            x[name] = at + need[name] / 2
            at += need[name] + _GAP
    for _ in range(40):
        for row in rows:
            for i, name in enumerate(row):
                near = [x[other] for other in (*above.get(name, ()), *below.get(name, ()))]
                wanted = sum(near) / len(near) if near else x[name]
                low = x[row[i - 1]] + (need[row[i - 1]] + need[name]) / 2 + _GAP if i else need[name] / 2 + _GAP
                high = (
                    x[row[i + 1]] - (need[row[i + 1]] + need[name]) / 2 - _GAP
                    if i + 1 < len(row)
                    else width - need[name] / 2 - _GAP
                )
                x[name] = min(max(wanted, low), high)
    places = {
        name: (round(x[name], 1), level * (HEIGHT + _DROP) + (HEIGHT + _DROP) / 2)
        for level, row in enumerate(rows)
        for name in row
    }
    return places, int(width)
