#!/usr/bin/env python3
"""Counts the `unsafe` code of what is linked into the pausa binary, per crate: the table of docs/dependencies.md.

Blocks, functions, traits and implementations are counted by their keyword, outside comments, strings, tests and examples.
Code for other systems and processors is counted with the rest.
"""

import json
import pathlib
import re
import subprocess
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- unsafe: begin -->\n", "<!-- unsafe: end -->\n"
MANY = 50
TARGET = "x86_64-unknown-linux-gnu"

# What may hide the word: strings (raw ones too), characters and comments. Nested block comments are rare enough.
HIDING = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'',
    re.DOTALL,
)
UNSAFE = re.compile(r"\bunsafe\s*(?=\{|fn\b|impl\b|trait\b|extern\b)")
FORBIDDEN = re.compile(r"#!\[(?:forbid|deny)\([^)]*\bunsafe_code\b")


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked():
    """The packages that are linked into the binary, without those that run only while it is built."""
    # `cargo metadata` would add what features of tests bring in. The monitor is embedded by the build script.
    tree = cargo(
        "tree", "--locked", "--edges=normal,no-proc-macro", f"--target={TARGET}", "--prefix=none", "--format={p}",
        "--package=pausa", "--package=pausa-monitor",
    )
    names = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--locked", "--format-version=1", f"--filter-platform={TARGET}"))
    return [package for package in metadata["packages"] if (package["name"], f"v{package['version']}") in names]


def count(package):
    """How often `unsafe` occurs in the sources of a package, and whether the package forbids it."""
    sources = pathlib.Path(package["manifest_path"]).parent / "src"
    number, forbidden = 0, False
    for path in sorted(sources.rglob("*.rs")):
        inside = path.relative_to(sources).parts
        if any(part in ("tests", "tests.rs", "test.rs", "benches", "examples") for part in inside):
            continue
        text = HIDING.sub(" ", path.read_text(encoding="utf-8", errors="replace"))
        forbidden |= bool(FORBIDDEN.search(text)) and path.name in ("lib.rs", "main.rs")
        number += len(UNSAFE.findall(text.split("\n#[cfg(test)]\nmod tests {")[0]))
    return number, forbidden


def table(packages):
    """Markdown: own crates and those that use most of it, and the number of the others."""
    own, foreign, none, forbidding = [], [], [], 0
    for package in packages:
        number, forbidden = count(package)
        if package["source"] is None and number:
            own.append((-number, package["name"]))
        elif number:
            foreign.append((-number, f"{package['name']} {package['version']}"))
        else:
            none.append(package["name"])
            forbidding += forbidden
    own.sort()
    foreign.sort()
    most = [row for row in foreign if -row[0] >= MANY]
    others = foreign[len(most):]

    def total(rows):
        return f"{-sum(number for number, _ in rows):,}"

    text = f"{len(packages)} crates; {total(own)} uses of `unsafe` in pausa's own, {total(foreign)} in the others.\n\n"
    text += "| Crate | Uses of `unsafe` |\n|---|---:|\n"
    text += "".join(f"| **{name}** | {-number} |\n" for number, name in own)
    text += "".join(f"| {name} | {-number} |\n" for number, name in most)
    text += f"| {len(others)} crates with fewer than {MANY} each | {total(others)} |\n"
    text += f"\nNone, in {len(none)} crates, {forbidding} of which have the compiler refuse it: " + ", ".join(sorted(none)) + ".\n"
    return "\n".join(textwrap.fill(line, 120, break_on_hyphens=False) if not line.startswith("|") else line for line in text.split("\n"))


def main():
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table(linked()) + END + after, encoding="utf-8")


main()
