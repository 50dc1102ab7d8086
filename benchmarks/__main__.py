"""``python -m benchmarks``: list the programs of this package."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def programs() -> dict[str, str]:
    """Return the first line of the docstring of each program, by the program's name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = docstring.partition("\n")[0]
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the programs, one a line."""
    listed = programs()
    width = max(map(len, listed))
    print("Run one with `python -m benchmarks.NAME`; each explains its options with --help.\n")
    for name, purpose in listed.items():
        print(f"  {name:<{width}}  {purpose}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
