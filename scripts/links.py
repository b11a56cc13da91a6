#!/usr/bin/env python3
"""Checks that every relative link in the repository's Markdown files leads to a file and, with `#`, to a heading, and
that the tests which docs/security.md names exist.

Needs no network: links with a scheme are not followed. Exits with 1 and a line per broken link.
"""

import pathlib
import re
import subprocess
import sys

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
TEST = re.compile(r"`([a-z0-9_/-]+)::([a-z0-9_]+)`")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def text_of(path):
    """The file without its code blocks and code spans, which may contain what looks like links."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """The headings' anchors as GitHub derives them: lower case, no punctuation, dashes for spaces, numbered if equal."""
    found = set()
    for heading in HEADING.findall(text_of(path)):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = base = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found


def problem(source, link):
    """What is wrong with a link of `source`, or None."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    name, _, anchor = link.partition("#")
    target = source.parent / name if name else source
    if not target.exists():
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "no such heading"
    return None


def missing_tests(path):
    """The tests that a page names, `file::function` from the root or tests/critest, and that are not there."""
    for file, function in TEST.findall(path.read_text(encoding="utf-8")):
        sources = [pathlib.Path(f"{directory}{file}.rs") for directory in ("", "tests/critest/")]
        text = "".join(source.read_text(encoding="utf-8") for source in sources if source.exists())
        if not re.search(rf"#\[(?:tokio::)?test\b[^{{]*\bfn {function}\(", text):
            yield f"{file}::{function}"


def main():
    """Checks the files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        check=True, capture_output=True, text=True,
    ).stdout
    broken = 0
    for path in map(pathlib.Path, filter(None, listed.split("\0"))):
        if not path.exists():
            continue
        text = re.sub(r"`[^`\n]*`", "", text_of(path))
        for match in LINK.finditer(text):
            link = match[1] or match[2]
            if (reason := problem(path, link)) is not None:
                print(f"{path}: {link}: {reason}", file=sys.stderr)
                broken += 1
    security = pathlib.Path("docs/security.md")
    for test in missing_tests(security):
        print(f"{security}: {test}: no such test", file=sys.stderr)
        broken += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
