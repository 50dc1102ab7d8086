"""The ledger says what the checks found, the cache cannot be stale, and the command line answers as it says."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from html import unescape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from proofs_checks import __main__ as command
from proofs_checks import constants, graph, ledger, report
from proofs_checks.exact import LinearProblem, LinearUser, vector
from proofs_checks.k_single_point import reported_model
from proofs_checks.registry import (
    Check,
    Evidence,
    Grade,
    Outcome,
    Verdict,
    checks,
    entries,
    gather,
    instances_only,
    run,
    statements,
)
from proofs_checks.typeset import typeset
from theory import EmpiricalQueries, LeastSquares, gradient_pac_constants
from theory.pac_constants import paper_constants


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    patch = pytest.MonkeyPatch()
    patch.setenv("EQUIPOISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    try:
        return ledger.run_all()
    finally:
        patch.undo()


# ---- The cache --------------------------------------------------------------------------------------------------


@pytest.fixture
def copied_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at a copy of the sources, so that a test can change them."""
    for package in ("theory", "solvers", "proofs_checks"):
        shutil.copytree(ledger.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    ledger.imported_files.cache_clear()
    yield tmp_path
    ledger.imported_files.cache_clear()


def change_one_byte(path: Path) -> None:
    """Change one letter of the first line of the docstring, which every module has."""
    data = bytearray(path.read_bytes())
    place = data.index(b'"""') + 4
    data[place] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("check", "file", "changes"),
    [
        ("eq1_global_loss.claim", "theory/losses.py", True),
        ("eq1_global_loss.claim", "theory/__init__.py", True),
        ("eq1_global_loss.claim", "theory/arrays.py", True),  # which theory/losses.py imports
        ("eq1_global_loss.claim", "proofs_checks/exact.py", True),
        ("eq1_global_loss.claim", "proofs_checks/registry.py", True),
        ("c19_sample_size.number", "theory/concentration.py", True),  # by way of theory/pac_constants.py
        ("lem6_sum_strongly_convex.claim", "proofs_checks/a_convexity.py", True),
        ("lem6_sum_strongly_convex.claim", "proofs_checks/search.py", True),
        ("lem6_sum_strongly_convex.claim", "proofs_checks/companion_poison.py", False),
        ("lem6_sum_strongly_convex.claim", "proofs_checks/report.py", False),
    ],
)
def test_the_key_follows_every_byte_that_the_check_imports(
    copied_root: Path, check: str, file: str, changes: bool
) -> None:
    made = checks()[check]
    before = ledger.cache_key(made)
    change_one_byte(copied_root / file)
    ledger.imported_files.cache_clear()
    assert (ledger.cache_key(made) != before) is changes


def test_the_key_follows_a_file_of_the_solvers_that_is_imported_by_the_way(copied_root: Path) -> None:
    # No check imports a solver today; one that does, by way of two modules, must be run again if the solver changes.
    (copied_root / "proofs_checks/a_convexity.py").write_text("from proofs_checks import between\n", encoding="utf-8")
    (copied_root / "proofs_checks/between.py").write_text(
        "def later():\n    from solvers.joint import minimize\n    return minimize\n", encoding="utf-8"
    )
    made = checks()["lem6_sum_strongly_convex.claim"]
    before = ledger.cache_key(made)
    assert copied_root / "solvers/_kernels.py" in ledger.imported_files("proofs_checks.a_convexity")
    change_one_byte(copied_root / "solvers/_kernels.py")
    ledger.imported_files.cache_clear()
    assert ledger.cache_key(made) != before


def test_a_file_that_is_deleted_or_appears_changes_the_key(copied_root: Path) -> None:
    made = checks()["eq1_global_loss.claim"]
    before = ledger.cache_key(made)
    path = copied_root / "theory/losses.py"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    ledger.imported_files.cache_clear()
    without = ledger.cache_key(made)
    assert without != before
    # A package of the same name would be imported instead.
    path.write_text(text, encoding="utf-8")
    (copied_root / "theory/losses").mkdir()
    (copied_root / "theory/losses/__init__.py").write_text(text, encoding="utf-8")
    ledger.imported_files.cache_clear()
    assert ledger.cache_key(made) not in {before, without}


def test_a_change_makes_the_check_run_again(copied_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ledger, "_memory", {})
    made = checks()["lem6_sum_strongly_convex.claim"]
    ledger.run_cached(made)
    ran: list[str] = []
    monkeypatch.setattr(ledger, "run", lambda check: ran.append(check.id) or run(check))
    ledger.run_cached(made)
    assert ran == []
    change_one_byte(copied_root / "proofs_checks/a_convexity.py")
    ledger.imported_files.cache_clear()
    ledger.run_cached(made)
    assert ran == [made.id]


def test_every_library_that_a_check_imports_is_in_the_key() -> None:
    named = {"flint": "python-flint", "sklearn": "scikit-learn"}
    unknown = set()
    for path in set().union(*(ledger.imported_files(made.function.__module__) for made in checks().values())):
        for name in ledger._names_imported(path):
            top = name.split(".")[0]
            if top not in ledger.PACKAGES and top not in sys.stdlib_module_names:
                unknown.add(named.get(top, top))
    assert {"sympy", "python-flint", "hypothesis", "numpy", "scipy"} <= unknown
    assert unknown <= set(ledger.LIBRARIES)


def test_an_import_inside_a_function_counts(copied_root: Path) -> None:
    made = checks()["eq2_modified_loss.claim"]
    assert copied_root / "theory/problem.py" in ledger.imported_files(made.function.__module__)


def test_nothing_is_taken_from_the_cache_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    made = checks()["lem6_sum_strongly_convex.claim"]
    ledger.run_cached(made)
    ran = []
    monkeypatch.setattr(
        ledger, "run", lambda check: ran.append(check) or Outcome(*[""] * 4, (), *[Evidence()] * 2, False)
    )
    ledger.run_cached(made, use_cache=False)
    assert ran == [made]


@pytest.mark.parametrize("library", ["sympy", "python-flint", "hypothesis", "numpy"])
def test_another_version_of_a_library_changes_the_key(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checks()["lem6_sum_strongly_convex.claim"]
    before = ledger.cache_key(made)
    installed = ledger.version
    monkeypatch.setattr(ledger, "version", lambda name: "999" if name == library else installed(name))
    ledger._environment.cache_clear()
    assert ledger.cache_key(made) != before
    monkeypatch.undo()
    ledger._environment.cache_clear()
    assert ledger.cache_key(made) == before


def test_a_switch_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checks()["lem6_sum_strongly_convex.claim"]
    before = ledger.cache_key(made)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    ledger._environment.cache_clear()
    assert ledger.cache_key(made) != before
    monkeypatch.undo()
    ledger._environment.cache_clear()


def test_what_is_read_back_is_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = checks()["lem11_loss_strongly_convex.proof_33"]
    first = ledger.run_cached(made)
    assert len(list(tmp_path.iterdir())) == 1
    ledger._memory.clear()
    monkeypatch.setattr(ledger, "run", lambda _: pytest.fail("the check ran although its outcome was cached"))
    assert ledger.run_cached(made) == first


def test_a_broken_cache_file_is_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = checks()["lem6_sum_strongly_convex.claim"]
    first = ledger.run_cached(made)
    ledger._memory.clear()
    for path in tmp_path.iterdir():
        path.write_text("{", encoding="utf-8")
    assert ledger.run_cached(made) == first


def test_an_undecided_outcome_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "_memory", {})
    made = replace(checks()["lem6_sum_strongly_convex.claim"], function=lambda **_: Evidence())
    made.function.__module__ = "proofs_checks.a_convexity"
    assert ledger.run_cached(made).verdict is Verdict.UNKNOWN
    assert not list(tmp_path.iterdir())


# ---- What is written --------------------------------------------------------------------------------------------


def test_the_files_in_the_repository_are_what_the_checks_say(outcomes: Mapping[str, Outcome]) -> None:
    assert ledger.differing(outcomes) == []


def test_a_file_that_says_something_else_is_noticed(outcomes: Mapping[str, Outcome], tmp_path: Path) -> None:
    ledger.write(outcomes, tmp_path)
    assert ledger.differing(outcomes, tmp_path) == []
    path = tmp_path / "LEDGER.md"
    path.write_text(path.read_text(encoding="utf-8").replace("| open |", "| proved |", 1), encoding="utf-8")
    assert ledger.differing(outcomes, tmp_path) == ["LEDGER.md"]


ERRATA = [made for made in checks().values() if made.errata is not None]


@pytest.mark.parametrize("made", ERRATA, ids=lambda made: made.id)
def test_errata_need_no_chance(made: Check) -> None:
    """So ERRATA.md is the same with another version of Hypothesis."""
    with instances_only():
        assert gather(made, made.printed).verdict is Verdict.FAILS


def test_a_failing_check_shows_in_the_ledger(outcomes: Mapping[str, Outcome]) -> None:
    broken = replace(outcomes["prop3_partial_honesty.claim"], amended=Evidence(undecided=("nothing was found",)))
    found = entries({**outcomes, "prop3_partial_honesty.claim": broken})
    assert found["prop3_partial_honesty"].own is Grade.OPEN
    assert "nothing was found" in ledger.ledger_markdown(found)


def test_everything_that_is_open_is_listed_with_its_reason(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    text = ledger.ledger_markdown(found)
    section = text.split("## What is open, and why")[1].split("\n## ")[0]
    still_open = [name for name, entry in found.items() if entry.own is Grade.OPEN]
    assert {"fig1", "fig20", "table1"} <= set(still_open)
    assert all(f"`{name}`" in section for name in still_open)
    assert section.count("`") == 2 * len(still_open)
    assert all(ledger.why_open(found[name]) in section for name in still_open)


def test_the_counts_add_up(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    count = ledger.counts(found)
    for origin in ("paper", "companion"):
        assert sum(count[origin]["own"].values()) == sum(count[origin]["chain"].values()) == count[origin]["claims"]
    assert count["falsehoods_refuted"] == count["falsehoods"] > count["checks"]
    assert len(ledger.weakest(found)) == 10
    levels = [entry.own for entry in ledger.weakest(found)]
    assert levels == sorted(levels)


def test_every_erratum_has_a_witness_a_repair_that_holds_and_a_replay(outcomes: Mapping[str, Outcome]) -> None:
    errata = [erratum for entry in entries(outcomes).values() for erratum in ledger.errata_of(entry)]
    assert len(errata) >= 30
    for erratum in errata:
        assert erratum["witness"]
        assert erratum["repair_holds"] == "holds"
        assert "Not examined yet" not in erratum["survives"]
        assert erratum["replay"].endswith(erratum["check"])


def test_the_json_has_every_statement_and_every_field(outcomes: Mapping[str, Outcome]) -> None:
    data = json.loads(ledger.documents(outcomes)["ledger.json"])
    assert [entry["id"] for entry in data["statements"]] == list(statements())
    needed = {"id", "ref", "equations", "origin", "printed", "amended", "own", "chain", "modulo", "method"}
    needed |= {"falsehoods", "refuted", "smallest_caught", "errata"}
    assert all(needed <= entry.keys() for entry in data["statements"])
    assert all(entry["printed"] in {"holds", "fails", "unknown", "unchecked"} for entry in data["statements"])
    assert list(data["equations"]) == [str(number) for number in range(1, 188)]


def test_the_graphs_draw_every_arrow_and_have_a_legend(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    pictures = graph.pictures(statements())
    wanted = {(used, statement.id) for statement in statements().values() for used in statement.uses}
    assert {arrow for picture in pictures for arrow in picture.arrows} == wanted
    text = ledger.graph_markdown(found)
    assert all(f"  {used} --> {user}" in text for used, user in wanted)
    shown = {line.split("_", 1)[1].split("[")[0].split("(")[0] for line in text.splitlines() if "legend_" in line}
    linked = {name for arrow in wanted for name in arrow}
    assert shown == {graph.kind(found[name]) for name in linked}


def test_no_graph_is_too_large_to_be_read(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    for picture in graph.pictures(statements()):
        for part in graph.components(picture):
            assert len(part.names) <= 20
            width = int(re.search(r'width="(\d+)"', graph.svg(found, part))[1])
            assert width <= 1120, f"{picture.title} is {width} px wide, more than the page"


def test_no_box_of_a_graph_hides_another_and_arrows_point_down(outcomes: Mapping[str, Outcome]) -> None:
    for picture in graph.pictures(statements()):
        for part in graph.components(picture):
            places = graph.layout(part)[0]
            assert set(places) == set(part.names)
            for (x, y), (other_x, other_y) in combinations(places.values(), 2):
                assert abs(x - other_x) >= graph.WIDTH or abs(y - other_y) >= graph.HEIGHT
            assert all(places[used][1] < places[user][1] for used, user in part.arrows)


def test_shape_and_text_of_a_box_say_the_same() -> None:
    boxes = {name: graph.node_svg(name, 0, 0, [name]) for name in graph.SHAPES}
    # Take the words away: the shapes alone must tell the grades apart.
    assert len({re.sub("<text.*?</text>", "", box) for box in boxes.values()}) == len(boxes)
    assert all(f">{name}</text>" in box for name, box in boxes.items())


def test_sharper_constants_are_sharper_and_in_the_ledger(outcomes: Mapping[str, Outcome]) -> None:
    rows = list(constants.constants())
    assert all(row.gain > 1.0 for row in rows)
    text = ledger.ledger_markdown(entries(outcomes))
    assert all(f"| {row.name} | {row.instance} |" in text for row in rows)


def test_the_sharper_constants_of_learning_are_those_that_the_code_uses() -> None:
    unit_vectors = EmpiricalQueries(np.eye(2))
    linear = constants.linear_gradient_pac_constant()
    assert linear.sharper == gradient_pac_constants(unit_vectors, LeastSquares(), 1.0).A
    assert linear.paper == paper_constants(unit_vectors, LeastSquares(), 1.0).A
    # ρ* of a user without data follows θ* = λρ/(λ+ν): slope 1/2 at λ = ν.
    assert constants.local_models().sharper == pytest.approx(0.5, rel=1e-15)
    honest = LinearProblem(
        tuple(LinearUser([vector([1])], vector([0])) for _ in range(99)), Fraction(1), Fraction(1), 1
    )
    g, theta = reported_model(honest, vector([1]))
    assert constants.query_norm().paper == pytest.approx(float(g[0] + 2 * theta[0]), rel=1e-12)


def test_the_constant_of_lemma_28_is_the_least_of_its_two_bounds() -> None:
    # By hand, for K = 0, M = 1: C = 1/8, so the radius is 32; d = σ(1)-1/2 = 0.23106, c = σ'(32) = e^-32.
    row = constants.gradient_pac_constant(0.0)
    assert row.paper == pytest.approx(0.25 * math.exp(-32), rel=1e-9, abs=0.0)
    assert row.sharper == pytest.approx(0.2310585786 / 4, rel=1e-9)


# ---- The report -------------------------------------------------------------------------------------------------


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]


class Elements(HTMLParser):
    """Collects the elements of a page, and refuses tags that do not match."""

    VOID = frozenset({"meta", "br", "input", "img", "link", "rect", "path", "polygon"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Element] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(Element(tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [element.attributes[name] for element in self.found if element.attributes.get(name)]


@pytest.fixture(scope="module")
def page(outcomes: Mapping[str, Outcome]) -> str:
    return report.html_page(outcomes, ledger.ROOT / "results")


def what_a_page_fetches(text: str) -> list[str]:
    """Everything that a browser would load, or go to, beyond the page and the files beside it."""
    elements = Elements(text)
    found = [v for name in ("src", "srcset", "poster", "action", "data") for v in elements.values(name)]
    for element in elements.found:
        for name in ("href", "xlink:href"):
            address = element.attributes.get(name) or ""
            if address and (element.tag in ("link", "image", "use", "base") or "//" in address):
                found.append(address)
    found += re.findall(r"@import|url\([^)]*\)|https?:|import\(|fetch\(|XMLHttpRequest", "".join(code_of(text)))
    return found


def code_of(text: str) -> list[str]:
    return [code for tag in ("style", "script") for code in re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)]


def test_the_report_needs_no_network(page: str) -> None:
    assert what_a_page_fetches(page) == []


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://example.org/katex.js"></script>',
        '<link rel="stylesheet" href="fonts.css">',
        '<img src="graph.png">',
        '<a href="https://example.org/">there</a>',
        "<style>@import 'x.css';</style>",
        "<style>p { background: url(x.png) }</style>",
        "<script>fetch('ledger.json')</script>",
    ],
)
def test_a_page_that_needs_the_network_is_noticed(planted: str) -> None:
    assert what_a_page_fetches(planted)


def test_every_statement_has_an_entry_and_every_inner_link_a_target(page: str) -> None:
    elements = Elements(page)
    ids = elements.values("id")
    assert set(statements()) <= set(ids)
    assert len(ids) == len(set(ids))
    inner = {link[1:] for link in elements.values("href") if link.startswith("#") and not link.startswith("#?")}
    assert inner <= set(ids)
    for made in checks().values():
        assert {f"source-{made.id}", f"caught-{made.id}"} <= inner


def test_every_erratum_is_linked_from_its_entry(page: str, outcomes: Mapping[str, Outcome]) -> None:
    articles = dict(re.findall(r'<article id="(\w+)"(.*?)</article>', page, re.DOTALL))
    errata = [(name, e) for name, entry in entries(outcomes).items() for e in ledger.errata_of(entry)]
    assert errata
    for name, erratum in errata:
        assert f'href="#witness-{erratum["check"]}"' in articles[name]
        assert f'id="witness-{erratum["check"]}"' in articles[name]


def wrong_source_links(text: str, folder: Path) -> list[str]:
    """The links to source lines where no check of the entry they stand in begins."""
    wrong, seen = [], 0
    for name, article in re.findall(r'<article id="(\w+)"(.*?)</article>', text, re.DOTALL):
        for address, line in re.findall(r'href="([^"#]+\.py)#L(\d+)"', article):
            seen += 1
            source = Path(os.path.normpath(folder / address))
            lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
            start = lines[int(line) - 1 : int(line) + 1]
            if start != ["@check(", f'    "{name}",']:
                wrong.append(f"{name}: {address}:{line}")
    assert seen == len(checks())
    return wrong


def test_links_to_sources_lead_to_the_line_of_the_check(
    page: str, outcomes: Mapping[str, Outcome], tmp_path: Path
) -> None:
    assert wrong_source_links(page, ledger.ROOT / "results") == []
    # Wherever the page lies.
    assert wrong_source_links(report.html_page(outcomes, tmp_path), tmp_path) == []


def test_a_source_link_one_line_off_or_from_another_folder_is_noticed(page: str) -> None:
    moved = re.sub(r"\.py#L(\d+)", lambda match: f".py#L{int(match[1]) + 1}", page)
    assert len(wrong_source_links(moved, ledger.ROOT / "results")) == len(checks())
    assert wrong_source_links(page, ledger.ROOT)


def test_the_copy_of_a_source_has_the_numbers_of_its_lines(page: str) -> None:
    made = checks()["thm5_single_point.proof_178"]
    copied = re.search(rf'id="source-{re.escape(made.id)}".*?<code class="source">(.*?)</code>', page, re.DOTALL)[1]
    lines = re.findall(r'<span data-n="(\d+)">(.*?)</span>', copied)
    path = Path(inspect.getsourcefile(inspect.unwrap(made.function)))
    source = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 10
    assert all(unescape(text) == source[int(number) - 1] for number, text in lines)


def articles_of(text: str) -> dict[str, dict[str, str]]:
    """The data of each entry, by its id."""
    return {
        element.attributes["id"]: {
            k.removeprefix("data-"): v or "" for k, v in element.attributes.items() if "data-" in k
        }
        for element in Elements(text).found
        if element.tag == "article"
    }


def test_filters_and_the_data_of_entries_fit(page: str, outcomes: Mapping[str, Outcome]) -> None:
    data, found = articles_of(page), entries(outcomes)
    for name, entry in found.items():
        assert data[name]["printed"] == entry.printed.value
        assert data[name]["own"] == entry.own.name.lower()
        assert set(data[name]["method"].split()) == {outcome.method for outcome in entry.outcomes}
    choices = {
        name: re.findall(r"<option>(.*?)</option>", options)
        for name, options in re.findall(r'<select name="(\w+)">(.*?)</select>', page)
    }
    keys = json.loads(re.search(r"KEYS = (\[.*?\])", page)[1].replace("'", '"'))
    assert set(keys) == choices.keys()
    for key, offered in choices.items():
        assert {value for entry in data.values() for value in entry[key].split()} <= set(offered), key


def test_the_numbers_at_the_top_are_those_of_the_entries_behind_their_links(page: str) -> None:
    data = articles_of(page)
    links = re.findall(r'<a href="#\?(bears=[^"]*)">(\d+)</a>', page)
    assert len(links) == 2 * 2 * len(Grade)
    for query, number in links:
        wanted = dict(pair.split("=") for pair in unescape(query).split("&"))
        assert sum(wanted.items() <= entry.items() for entry in data.values()) == int(number), query


NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs node to run the script of the page")
def test_the_filter_of_the_page_keeps_what_it_should(page: str, tmp_path: Path) -> None:
    data = articles_of(page)
    wishes = [
        {},
        {"printed": "fails"},
        {"own": "proved", "method": "class"},
        {"method": "symbolic"},
        {"text": "equation  THREE"},
        {"text": "no such words"},
    ]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    texts = {name: f"{name} equation three" if name.startswith("lem") else name for name in data}
    program = (
        f"{script}\nconst data = {json.dumps(data)}, texts = {json.dumps(texts)}, wishes = {json.dumps(wishes)};\n"
        "console.log(JSON.stringify(wishes.map(w => Object.keys(data).filter(n => keeps(data[n], texts[n], w)))));"
    )
    path = tmp_path / "filter.js"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run([str(NODE), str(path)], capture_output=True, text=True, check=True, timeout=60)
    kept = json.loads(done.stdout)

    def fits(name: str, wish: Mapping[str, str]) -> bool:
        words = wish.get("text", "").lower().split()
        choices = {key: value for key, value in wish.items() if key != "text"}
        return all(w in texts[name] for w in words) and all(v in data[name][k].split() for k, v in choices.items())

    assert kept == [[name for name in data if fits(name, wish)] for wish in wishes]
    # Each wish but the first leaves something out, and only the last leaves nothing.
    assert all(len(names) < len(data) for names in kept[1:])
    assert all(kept[:-1])
    assert kept[-1] == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("θ_s♠ and ρ^{t+1}", "θ<sub>s</sub>♠ and ρ<sup>t+1</sup>"),
        ("e^{-d_a}", "e<sup>−d<sub>a</sub></sup>"),
        ("λ_min(Σ) <= (1-q/2)u", "λ<sub>min</sub>(Σ) ≤ (1−q/2)u"),
        ("√(λ²-‖g‖²)", '<span class="root">√<span>λ²−‖g‖²</span></span>'),
        ("sub-Gaussian, L-smooth", "sub-Gaussian, L-smooth"),
        (
            "the part `proof_116` of lem25_logistic_linear",
            "the part <code>proof_116</code> of <code>lem25_logistic_linear</code>",
        ),
        ("a < b & c", "a &lt; b &amp; c"),
        ("unclosed √(x and y_{k", "unclosed √(x and y<sub>{k</sub>"),
    ],
)
def test_formulas_are_typeset(text: str, html: str) -> None:
    assert typeset(text) == html


# ---- The command line -------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))


def test_run_says_what_it_found(own_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--statement", "lem11_loss_strongly_convex"]) == 0
    assert "3 of 3 checks hold" in capsys.readouterr().out


def test_what_a_claim_survives_without_is_computed_and_shown(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    shown = [(o, name, v) for entry in found.values() for o in entry.outcomes for name, v in o.unneeded.items()]
    assert len(shown) >= 5
    assert all(verdict is Verdict.HOLDS for _, _, verdict in shown)
    text = ledger.ledger_markdown(found)
    assert all(f"| `{o.statement}.{o.part}` | {name} | holds |" in text for o, name, _ in shown)


def test_theorems_of_books_are_cited_in_the_ledger(outcomes: Mapping[str, Outcome]) -> None:
    found = entries(outcomes)
    text = ledger.ledger_markdown(found)
    named = {name for entry in found.values() for name in entry.modulo}
    assert {"heine_borel", "thm9_bernstein"} <= named
    assert all(re.search(rf"^\| `{name}` \| .*(19|20)\d\d", text, re.MULTILINE) for name in named)


def test_run_of_an_open_statement_is_not_a_success(own_cache: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--statement", "fig1"]) == 1
    assert "open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("thm5", "thm5_single_point"), ("lem13_minimised_loss", "lem13_minimized_loss"), ("c19", "c19_sample_size")],
)
def test_an_unknown_statement_is_named_and_what_was_meant(
    wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["explain", wrong]) == 2
    text = capsys.readouterr().err
    assert wrong in text
    assert meant in text


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("list", "run", "explain", "replay", "ledger", "report"))


def test_the_program_leaves_nothing_where_it_is_run_and_bears_a_closed_pipe(tmp_path: Path) -> None:
    here, cache = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    environment = {**os.environ, "EQUIPOISE_CACHE": str(cache), "PYTHONPATH": str(ledger.ROOT)}
    program = [sys.executable, "-m", "proofs_checks"]
    words = ["run", "--statement", "lem16_descent"]
    done = subprocess.run([*program, *words], cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(here.iterdir()) == []
    with subprocess.Popen(
        [*program, "list"], cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        complaint = process.stderr.read()
    assert process.returncode == 0
    assert complaint == b""


def test_replay_shows_the_witness(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["replay", "thm5_single_point.proof_178"]) == 0
    assert "gradient = 2" in capsys.readouterr().out


def test_replay_shows_what_refutes_a_falsehood(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["replay", "thm5_single_point.claim", "--falsehood", "without_nu"]) == 0
    text = capsys.readouterr().out
    assert "thm5_single_point.claim: without_nu, the claim fails" in text
    assert "false: ρ* = target" in text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["thm5_single_point.claim", "--falsehood", "no_such"], "without_nu"),
        (["thm5_single_point.no_such"], "proof_178"),
        (["thm99"], "thm99"),
    ],
)
def test_replay_of_what_there_is_not_says_what_there_is(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["replay", *words]) == 2
    assert named in capsys.readouterr().err


def test_replay_of_a_claim_that_holds_has_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["replay", "lem6_sum_strongly_convex"]) == 1
    assert "Nothing was refuted" in capsys.readouterr().out


def test_explain_gives_the_claim_the_evidence_and_the_errata(
    own_cache: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["explain", "thm5_single_point"]) == 0
    text = capsys.readouterr().out
    for part in ("Claim:", "Used by its printed proof:", "falsehood without_nu: fails", "Erratum at (178)", "replay:"):
        assert part in text


def test_list_names_every_statement(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(identifier in text for identifier in statements())
