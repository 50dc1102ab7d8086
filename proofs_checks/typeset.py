"""Formulas as they stand in claims and docstrings, in plain characters, made into HTML that needs no script.

``ρ^{t+1}``, ``L_n`` and ``ℓ2²`` become raised and lowered characters, ``√(1+r²)`` gets its bar, a hyphen between
symbols becomes a minus; a word in backticks, or with an underscore in it, is code.
"""

from __future__ import annotations

import re
from html import escape

_OPERATORS = ("argmin", "min", "max", "inf", "sup", "lim")
_CODE = re.compile(
    rf"`([^`]+)`|(?<![\w.])((?!(?:{'|'.join(_OPERATORS)})_)[a-z]{{2,}}[a-z0-9]*(?:_[a-z0-9]+)+(?:\.\w+)*)"
)
_EMPHASIS = re.compile(r"(^|\s)\*([A-Za-z][\w '.]*)\*")
_RELATIONS = {"<=": "≤", ">=": "≥", "!=": "≠", "->": "→"}
_CLOSING = {"{": "}", "(": ")"}
_WORD = re.compile(rf"(?!(?:{'|'.join(_OPERATORS)})$)[A-Za-z]{{3,}}")


def typeset(text: str) -> str:
    """Return ``text`` as HTML.

    Examples
    --------
    >>> typeset("‖ρ^{t+1}-θ_n‖ <= √(1+r²)")
    '‖ρ<sup>t+1</sup>−θ<sub>n</sub>‖ ≤ <span class="root">√<span>1+r²</span></span>'
    >>> typeset("smooth-ℓ2 and `lam`")
    'smooth-ℓ<sub>2</sub> and <code>lam</code>'
    """
    found, at = [], 0
    for match in _CODE.finditer(text):
        found.append(_formula(text[at : match.start()]))
        found.append(f"<code>{escape(match[1] or match[2])}</code>")
        at = match.end()
    return _EMPHASIS.sub(r"\1<em>\2</em>", "".join([*found, _formula(text[at:])]))


def paragraphs(text: str) -> str:
    """Return a docstring as paragraphs; lines that are set in stay on lines of their own.

    Examples
    --------
    >>> paragraphs("One\\nline.\\n\\nA formula:\\n    x = 1")
    '<p>One line.</p><p>A formula:</p><p class="display">x = 1</p>'
    """
    made = []
    for block in re.split(r"\n\s*\n", text.strip()):
        for is_display, lines in _runs(block.splitlines()):
            if is_display:
                made.append(f'<p class="display">{"<br>".join(typeset(line.strip()) for line in lines)}</p>')
            else:
                made.append(f"<p>{typeset(' '.join(line.strip() for line in lines))}</p>")
    return "".join(made)


def _runs(lines: list[str]) -> list[tuple[bool, list[str]]]:
    runs: list[tuple[bool, list[str]]] = []
    for line in lines:
        is_display = line.startswith("    ")
        if runs and runs[-1][0] is is_display:
            runs[-1][1].append(line)
        else:
            runs.append((is_display, [line]))
    return runs


def _formula(text: str) -> str:
    made, at = "", 0
    while at < len(text):
        here, two = text[at], text[at : at + 2]
        if here in "_^" and at and not text[at - 1].isspace():
            script, at = _script(text, at + 1, raised=here == "^")
            tag = "sup" if here == "^" else "sub"
            made += f"<{tag}>{_formula(script)}</{tag}>"
        elif here == "√":
            radicand, at = _radicand(text, at + 1)
            made += f'<span class="root">√<span>{_formula(radicand)}</span></span>' if radicand else "√"
        elif two == "ℓ2":
            made, at = made + "ℓ<sub>2</sub>", at + 2
        elif two in _RELATIONS:
            made, at = made + _RELATIONS[two], at + 2
        else:
            made += "−" if here == "-" and _is_minus(text, at) else escape(here)
            at += 1
    return made


def _script(text: str, at: int, *, raised: bool) -> tuple[str, int]:
    """Return what is raised or lowered, and where the text goes on."""
    if text[at : at + 1] == "{" or (raised and text[at : at + 1] == "("):
        end = _matching(text, at)
        return (text[at + 1 : end], end + 1) if end else (text[at:], len(text))
    for word in _OPERATORS:
        if text.startswith(word, at):
            return word, at + len(word)
    if raised and text[at : at + 1] == "-":
        number = re.match(r"-(?:\d+|\w)", text[at:])
        if number:
            return number[0], at + len(number[0])
    digits = re.match(r"\d+", text[at:])
    return (digits[0], at + len(digits[0])) if digits else (text[at : at + 1], at + 1)


def _radicand(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] == "(":
        end = _matching(text, at)
        return (text[at + 1 : end], end + 1) if end else ("", at)
    number = re.match(r"\d+|\w[_^]?\w?[²³]?|\w", text[at:])
    return (number[0], at + len(number[0])) if number else ("", at)


def _matching(text: str, at: int) -> int:
    """Return where the bracket that opens at ``at`` closes; 0 if it does not."""
    opening, depth = text[at], 0
    for place in range(at, len(text)):
        depth += (text[place] == opening) - (text[place] == _CLOSING[opening])
        if depth == 0:
            return place
    return 0


def _is_minus(text: str, at: int) -> bool:
    """A hyphen is a minus unless a word of three letters or more is joined to it on either side."""
    before = re.search(r"[^\s]*$", text[:at])
    after = re.match(r"[^\s]*", text[at + 1 :])
    left, right = before[0] if before else "", after[0] if after else ""
    if not left:
        return True
    if not right:
        return False
    tail = re.search(r"[A-Za-z]+\*?$", left)
    head = re.match(r"[A-Za-z]+", right)
    return not ((tail and _WORD.fullmatch(tail[0].rstrip("*"))) or (head and _WORD.fullmatch(head[0])))
