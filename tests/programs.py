"""Programs of the README.md files that are to be saved: those whose first line is a comment with a name."""

import re
from pathlib import Path

PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def programs(page: Path) -> dict[str, str]:
    """The text of each such program by its name."""
    return dict(PROGRAM.findall(page.read_text(encoding="utf-8")))
