"""The ledger as one HTML page: search, filters, formulas, pictures, sources and witnesses, without a network.

Formulas are typeset when the page is written (:mod:`proofs_checks.typeset`), so nothing has to be rendered.  Verdicts
are told by words and by a mark, not by colour.  Every entry has an address of its own (``#thm5_single_point``), and so
has every choice of filters (``#?printed=fails&origin=paper``).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template

from proofs_checks import constants, graph
from proofs_checks.ledger import GRADES_IN_WORDS, NO_CLAIM, counts, errata_of, home, weak_point, weakest, why_open
from proofs_checks.registry import TEXTBOOK, Entry, Grade, Outcome, Verdict, checks, entries
from proofs_checks.typeset import paragraphs, typeset

_MARKS = {"holds": "✓", "fails": "✗", "unknown": "?", "unchecked": "–"}
_GRADES = [grade.name.lower() for grade in reversed(Grade)]
_STYLE = """
:root { color-scheme: light dark; --line: #8888; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { margin: 0 0 .5rem; line-height: 1.2; } h2 { margin: 2rem 0 .6rem; } p { margin: .5rem 0; }
a { color: LinkText; } code, .source { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; } sub, sup { line-height: 0; font-size: .75em; }
.root span { border-top: 1px solid; padding: 0 .1em; } .display { margin-left: 2rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; }
form { display: flex; flex-wrap: wrap; gap: .4rem .5rem; align-items: end; padding: .6rem 0; background: Canvas;
  border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 1; }
label { display: flex; flex-direction: column; font-size: .8rem; flex: 0 1 auto; }
select { width: 5.9rem; font-size: .85rem; }
input, select, button { font: inherit; font-size: .95rem; padding: .25rem .4rem; max-width: 100%; }
label.search { flex: 1 1 8rem; } #shown { margin-left: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } th { font-weight: 600; }
article { border: 1px solid var(--line); border-radius: 6px; margin: .8rem 0; padding: .6rem 1rem; }
article[hidden] { display: none; } article:target { outline: 3px solid LinkText; }
article, .anchor { scroll-margin-top: 8rem; }
article header { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: baseline; }
article h3 { font-size: 1.1rem; margin: 0; } .tags { display: flex; flex-wrap: wrap; gap: .4rem; font-size: .82rem; }
.tags span { border: 1px solid var(--line); border-radius: 4px; padding: 0 .4rem; white-space: nowrap; }
.tags .fails, .tags .open, .tags .unknown { border: 2px dashed; font-weight: 600; }
.facts { font-size: .92rem; } .facts p { margin: .2rem 0; overflow-wrap: anywhere; }
details { margin: .4rem 0; } summary { cursor: pointer; } details details { margin-left: 1rem; }
.body { border-left: 2px solid var(--line); padding-left: .9rem; margin-left: .3rem; overflow-wrap: anywhere; }
.body ul { margin: .3rem 0; padding-left: 1.2rem; }
.source { display: block; white-space: pre; overflow-x: auto; background: var(--soft); padding: .5rem 0; }
.source span::before { content: attr(data-n); display: inline-block; width: 3.2rem; padding-right: .8rem;
  text-align: right; opacity: .6; user-select: none; }
.source span:target { background: #fc08; }
.erratum { border-left: 4px double; padding-left: .8rem; margin: .6rem 0; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; } figure { margin: 0; max-width: 100%; }
figcaption { font-weight: 600; margin: .8rem 0 .2rem; } svg { display: block; }
.node rect, .node polygon, .node path { fill: Canvas; stroke: CanvasText; } .node path { fill: none; }
.node text { fill: CanvasText; font: 13px system-ui, "DejaVu Sans", sans-serif; text-anchor: middle; }
.node .name { font-weight: 600; } .dashed { stroke-dasharray: 5 3; } svg a:hover .name { text-decoration: underline; }
.arrow { fill: none; stroke: CanvasText; opacity: .6; } .tip { fill: CanvasText; }
@media (max-width: 44rem) { form { position: static; } label { flex: 1 1 8rem; } select { width: 100%; }
  article { padding: .5rem .6rem; }
  article, .anchor { scroll-margin-top: 1rem; } .display { margin-left: .6rem; } body { padding: .6rem; } }
@media print { form, nav { display: none; } }
"""
_SCRIPT = """
const KEYS = ['printed', 'amended', 'proof', 'own', 'chain', 'method', 'kind', 'origin', 'bears'];
// Whether an entry (its data and its text in small letters) is wanted: each word, and each choice that was made.
function keeps(data, text, wanted) {
  return (wanted.text || '').toLowerCase().split(/\\s+/).every(word => text.includes(word))
    && KEYS.every(key => !wanted[key] || data[key].split(' ').includes(wanted[key]));
}
if (typeof document !== 'undefined') {
  const form = document.querySelector('form'), items = [...document.querySelectorAll('article')];
  const spoken = a => {
    const copy = a.cloneNode(true);
    copy.querySelectorAll('.source').forEach(e => e.remove());
    return copy.textContent.toLowerCase();
  };
  const texts = new Map(items.map(a => [a, spoken(a)]));
  const wanted = () => Object.fromEntries([...new FormData(form)].filter(pair => pair[1]));
  const show = () => {
    let n = 0;
    for (const a of items) { a.hidden = !keeps(a.dataset, texts.get(a), wanted()); n += !a.hidden; }
    document.querySelector('#shown').textContent = n + ' of ' + items.length + ' entries';
  };
  const choose = choices => {
    for (const field of form.elements) if (field.name) field.value = choices.get(field.name) || '';
    show();
  };
  const go = () => {
    if (location.hash.startsWith('#?')) return choose(new URLSearchParams(location.hash.slice(2)));
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest('article[hidden]')) choose(new URLSearchParams());
    for (let e = target; e; e = e.parentElement) if (e.tagName === 'DETAILS') e.open = true;
    if (target.tagName === 'DETAILS') target.open = true;
    target.scrollIntoView();
  };
  form.addEventListener('input', () => {
    show();
    history.replaceState(null, '', '#?' + new URLSearchParams(wanted()));
  });
  form.addEventListener('reset', () => setTimeout(() => { show(); history.replaceState(null, '', '#?'); }));
  form.addEventListener('submit', e => e.preventDefault());
  addEventListener('hashchange', go);
  show(); go();
}
"""
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Equipoise: ledger of statements</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>$style</style></head><body>
<h1>Ledger of statements</h1>
<p>What the machine found of every statement of <cite>An Equivalence Between Data Poisoning and Byzantine Gradient
Attacks</cite> (ICML 2022), and of further ones. $summary</p>
<nav><a href="#entries">Entries</a> <a href="#?printed=fails">What fails as printed</a>
<a href="#weakest">The ten weakest</a> <a href="#graph">What rests on what</a> <a href="#constants">Constants</a></nav>
$counts
<p><b>Grades.</b> $grades</p>
<section><h2 id="entries">Entries</h2>
$filters
<main>
$articles
</main></section>
<h2 id="weakest">The ten weakest entries</h2>
$weakest
<h2 id="graph">What rests on what</h2>
<p>An arrow reads: is used in the printed proof of. The shape and the text give the own grade.</p>
$legend
$pictures
<h2 id="constants">The paper's constants, and sharper ones</h2>
$constants
<h2 id="books">Theorems of books</h2>
$books
<script>$script</script></body></html>
""")


def html_page(outcomes: Mapping[str, Outcome], folder: Path | None = None) -> str:
    """Return the page; links to files are relative to ``folder``, where it will lie (the repository if absent)."""
    found = entries(outcomes)
    count = counts(found)
    used_by = {name: [e.statement.id for e in found.values() if name in e.statement.uses] for name in found}
    summary = (
        f"{count['checks']} checks; {count['falsehoods_refuted']} of {count['falsehoods']} planted falsehoods refuted; "
        f"{count['equations_checked']} of {count['equations']} equations named by a check; "
        f"{count['errata_in_claims']} printed claims and {count['errata_in_proofs']} printed steps refuted."
    )
    base = home() if folder is None else folder.resolve()
    return _PAGE.substitute(
        style=_STYLE,
        summary=escape(summary),
        counts=_counts(count),
        grades=typeset(GRADES_IN_WORDS),
        filters=_filters(found),
        articles="\n".join(_article(entry, used_by[name], base) for name, entry in found.items()),
        weakest=_weakest(found),
        legend=_legend(found),
        pictures=_pictures(found),
        constants=_constants(),
        books=_books(),
        script=_SCRIPT,
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, numbers_from: int) -> str:
    """Return a table of HTML cells; those from the given column on are numbers."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="number">{c}</td>' if i >= numbers_from else f"<td>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _counts(count: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    rows = []
    for origin, column in (("paper", "own"), ("paper", "chain"), ("companion", "own"), ("companion", "chain")):
        numbers = [
            f'<a href="#?bears=claim&amp;origin={origin}&amp;{column}={grade}">{number}</a>'
            for grade, number in count[origin][column].items()
        ]
        rows.append([f"{origin}, {column}", *numbers])
    return _table(["claims", *_GRADES], rows, numbers_from=1)


def _filters(found: Mapping[str, Entry]) -> str:
    def choice(name: str, label: str, values: Iterable[str]) -> str:
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        return f'<label>{label}<select name="{name}"><option value="">any</option>{options}</select></label>'

    methods = sorted({outcome.method for entry in found.values() for outcome in entry.outcomes})
    return "".join(
        [
            '<form><label class="search">search',
            '<input type="search" name="text" placeholder="Lemma 13, smooth, (178), …"></label>',
            choice("printed", "as printed", _MARKS),
            choice("amended", "as amended", _MARKS),
            choice("proof", "printed proof", _MARKS),
            choice("own", "own grade", _GRADES),
            choice("chain", "chain", _GRADES),
            choice("method", "method", methods),
            choice("kind", "kind", sorted({entry.statement.kind for entry in found.values()})),
            choice("origin", "origin", ["paper", "companion"]),
            choice("bears", "what it is", ["claim", "other"]),
            '<button type="reset">clear</button><output id="shown"></output></form>',
        ]
    )


def _article(entry: Entry, used_by: list[str], base: Path) -> str:
    statement = entry.statement
    data = {
        "printed": entry.printed.value,
        "amended": entry.amended.value,
        "proof": entry.proof.value,
        "own": entry.own.name.lower(),
        "chain": entry.chain.name.lower(),
        "method": " ".join(sorted({outcome.method for outcome in entry.outcomes})),
        "kind": statement.kind,
        "origin": statement.origin,
        "bears": "other" if statement.kind in NO_CLAIM else "claim",
    }
    tags = [
        f'<span class="{data[key]}">{label}: {_MARKS[data[key]]} {data[key]}</span>'
        for key, label in (("printed", "as printed"), ("amended", "as amended"), ("proof", "printed proof"))
        if key != "proof" or entry.proof is not Verdict.UNCHECKED
    ]
    tags += [f'<span class="{data["own"]}">own: {data["own"]}</span>', f"<span>chain: {data['chain']}</span>"]
    attributes = " ".join(f'data-{key}="{value}"' for key, value in data.items())
    lines = [
        f'<article id="{statement.id}" {attributes}>',
        f'<header><h3><a href="#{statement.id}">{typeset(statement.ref)}</a></h3><code>{statement.id}</code>',
        f'<div class="tags">{"".join(tags)}</div></header><p>{typeset(statement.claim)}</p><div class="facts">',
    ]
    if statement.hypotheses:
        lines.append(f"<p>Supposed: {typeset('; '.join(statement.hypotheses))}.</p>")
    if statement.equations:
        lines.append(f"<p>Equations: {', '.join(f'({number})' for number in statement.equations)}</p>")
    for label, names in (
        ("Said with", statement.assumes),
        ("Uses", statement.uses),
        ("Used by", used_by),
    ):
        if names:
            lines.append(f"<p>{label}: {_links(names)}</p>")
    if entry.modulo:
        books = (
            f'<a href="#{n}">{n}</a>' if n not in TEXTBOOK else f'<a href="#book-{n}">{n}</a>'
            for n in sorted(entry.modulo)
        )
        lines.append(f"<p>Modulo: {', '.join(books)}</p>")
    if entry.own is Grade.OPEN:
        lines.append(f"<p>Open: {typeset(why_open(entry))}</p>")
    errata = errata_of(entry)
    if entry.outcomes:
        lines.append(f"<p>Source: {', '.join(_source_link(outcome, base) for outcome in entry.outcomes)}</p>")
        shown = [(f"witness-{e['check']}", f"erratum at {e['place']}") for e in errata]
        shown += [(f"caught-{_id(o)}", f"falsehoods of {o.part}") for o in entry.outcomes if o.caught_by]
        lines.append(
            "<p>Witnesses: " + ", ".join(f'<a href="#{at}">{typeset(text)}</a>' for at, text in shown) + "</p>"
        )
    lines.append("</div>")
    lines += [_erratum(erratum) for erratum in errata]
    lines += [_check(outcome) for outcome in entry.outcomes]
    return "\n".join([*lines, "</article>"])


def _links(names: Iterable[str]) -> str:
    return ", ".join(f'<a href="#{name}">{name}</a>' for name in names)


def _id(outcome: Outcome) -> str:
    return f"{outcome.statement}.{outcome.part}"


def _place(outcome: Outcome) -> tuple[Path, int, list[str]]:
    """Return the file of a check, its first line there, and its source."""
    function = inspect.unwrap(checks()[_id(outcome)].function)
    source, line = inspect.getsourcelines(function)
    return Path(inspect.getsourcefile(function) or "").resolve(), line, source


def _source_link(outcome: Outcome, base: Path) -> str:
    """Link to the line in the file, and to the copy of the source in this page."""
    path, line, _ = _place(outcome)
    address = Path(os.path.relpath(path, base)).as_posix()
    return (
        f'<a href="#source-{_id(outcome)}">{outcome.part}</a> '
        f'(<a href="{escape(address)}#L{line}">{path.parent.name}/{path.name}:{line}</a>)'
    )


def _erratum(erratum: Mapping[str, object]) -> str:
    scan = "<p>The scan of the text may be to blame.</p>" if erratum["scan_may_be_to_blame"] else ""
    return (
        f'<div class="erratum anchor" id="witness-{erratum["check"]}"><p><b>Erratum in the {erratum["concerns"]}: '
        f"{typeset(str(erratum['place']))}</b></p><p>Witness: {typeset(str(erratum['witness']))}</p>"
        f"<p>Repair: {typeset(str(erratum['repair']))} (verified: {erratum['repair_holds']})</p>"
        f"<p>What survives: {typeset(str(erratum['survives']))}</p>{scan}"
        f"<p>Replay: <code>{escape(str(erratum['replay']))}</code></p></div>"
    )


def _check(outcome: Outcome) -> str:
    made = checks()[_id(outcome)]
    verdict = outcome.verdict.value
    amended = outcome.amended
    facts = [f"verified: {typeset(step)}" for step in amended.steps]
    facts.append(f"instances: {amended.decided} decided, {amended.skipped} outside the hypotheses")
    facts += [f"undecided: {typeset(text)}" for text in amended.undecided]
    facts += [f"in words only: {typeset(outcome.in_words)}"] if outcome.in_words else []
    facts += [f"without {typeset(name)}: {found.value}" for name, found in outcome.unneeded.items()]
    facts += [f"smallest excess caught: {outcome.smallest_caught}"] if outcome.smallest_caught else []
    caught = "".join(
        f"<li><code>{name}</code>: {found.value}; {typeset(outcome.caught_by.get(name, ''))}</li>"
        for name, found in outcome.falsehoods.items()
    )
    _, first, source = _place(outcome)
    code = "".join(
        f'<span data-n="{first + i}">{escape(line.rstrip(chr(10)))}</span>\n' for i, line in enumerate(source)
    )
    equations = f", equations {', '.join(f'({n})' for n in outcome.equations)}" if outcome.equations else ""
    return (
        f'<details class="anchor" id="check-{_id(outcome)}"><summary>{_MARKS[verdict]} {outcome.part}: {verdict}, '
        f"{outcome.grade.name.lower()} ({outcome.method}{equations})</summary>"
        f'<div class="body">{paragraphs(made.doc)}<ul>{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'
        f'<div class="anchor" id="caught-{_id(outcome)}">Planted falsehoods, and what refutes them '
        f"(<code>python -m proofs_checks replay {_id(outcome)} --falsehood NAME</code>):<ul>{caught}</ul></div>"
        f'<details class="anchor" id="source-{_id(outcome)}"><summary>source</summary>'
        f'<code class="source">{code}</code></details></div></details>'
    )


def _weakest(found: Mapping[str, Entry]) -> str:
    rows = [
        [
            f'<a href="#{e.statement.id}">{typeset(e.statement.ref)}</a>',
            e.own.name.lower(),
            e.chain.name.lower(),
            typeset(weak_point(e, found)),
        ]
        for e in weakest(found)
    ]
    return _table(["entry", "own", "chain", "what is missing"], rows, numbers_from=4)


def _legend(found: Mapping[str, Entry]) -> str:
    def amount(number: int) -> str:
        return "1 entry" if number == 1 else f"{number} entries"

    nodes = "".join(
        f'<figure><svg width="180" height="70" role="img" aria-label="{shape}">'
        f"{graph.node_svg(name, 90, 35, [name], [amount(number)])}</svg><p>{shape}</p></figure>"
        for name, shape, number in graph.legend(found)
    )
    return f'<div class="pictures" id="legend">{nodes}</div>'


def _pictures(found: Mapping[str, Entry]) -> str:
    made = []
    for picture in graph.pictures({name: entry.statement for name, entry in found.items()}):
        drawn = "".join(f'<div class="scroll">{graph.svg(found, part)}</div>' for part in graph.components(picture))
        made.append(
            f'<figure><figcaption>{typeset(picture.title)}</figcaption><div class="pictures">{drawn}</div></figure>'
        )
    return "\n".join(made)


def _books() -> str:
    rows = [[f'<code class="anchor" id="book-{name}">{name}</code>', escape(text)] for name, text in TEXTBOOK.items()]
    return _table(["name", "theorem"], rows, numbers_from=2)


def _constants() -> str:
    rows = [
        [
            typeset(row.name),
            typeset(row.instance),
            typeset(row.source),
            f"{row.paper:.4g}",
            f"{row.sharper:.4g}",
            f"{row.gain:.3g}",
        ]
        for row in constants.constants()
    ]
    return _table(["constant", "instance", "source", "paper", "sharper", "times better"], rows, numbers_from=3)
