"""What the user reads: numbers agree with their nouns, and each task of the progress names its unit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reappear.pipeline.settings import describe
from tests.cli.test_ranges import WITH_SETTINGS, settings_class

SOURCE = Path(__file__).parents[2] / "src" / "reappear"
MODULES = sorted(SOURCE.rglob("*.py"))
# What follows a value that is not a count, such as a path; and what ends the noun of a count.
NO_NOUN = re.compile(
    "allows|averages|compares|counts|does|ends|exists|gives|has|holds|is|keeps|lacks|leads|leaves|learns|lies|looks|"
    "makes|matches|means|names|needs|refers|runs|says|separates|splits|stands|starts|takes|was|"
    "a|across|an|and|are|as|at|but|by|can|cannot|for|from|have|in|its|neither|no|nor|not|of|on|or|that|the|this|to|"
    "which|whose|with|would|pixels"
)
WORDS = re.compile(r"(?: [a-z-]+){1,3}")
PLURAL_VERB = re.compile(r"(?: (?!that|which)[a-z]+){0,3}? (are|were|have|do|need|lie|fit)\b")


def texts(tree: ast.AST) -> Iterator[tuple[int, str, ast.FormattedValue, str]]:
    """Line of each formatted value, what stands before it, the value, and what stands behind it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [ast.Constant(""), *node.values, ast.Constant("")]
            for before, value, after in zip(parts, parts[1:], parts[2:], strict=False):
                if isinstance(value, ast.FormattedValue):
                    text = [str(part.value) if isinstance(part, ast.Constant) else "" for part in (before, after)]
                    yield value.lineno, text[0], value, text[1]


def is_count(before: str, value: ast.FormattedValue) -> bool:
    """Whether a value may be the number of something: no constant, not a measurement, not the side of an area."""
    spec = "" if value.format_spec is None else ast.unparse(value.format_spec)[2:-1]
    constant = isinstance(value.value, ast.Name) and value.value.id.isupper()
    return not (constant or before.rstrip().endswith("x") or re.search(r"[fge%]$", spec))


def uncounted(source: str) -> list[str]:
    """Numbers in front of a plural noun, as "{count} images", and "{counted(count, 'image')} are"."""
    found = []
    for line, before, value, after in texts(ast.parse(source)):
        if isinstance(value.value, ast.Call) and ast.unparse(value.value.func) == "counted":
            if PLURAL_VERB.match(after):
                found.append(f"{line}: a verb in the plural behind {ast.unparse(value.value)}: {after[:40]!r}")
        elif is_count(before, value) and (words := WORDS.match(after)):
            for word in words[0].split():
                if NO_NOUN.fullmatch(word):
                    break
                if word == "people" or re.search(r"[a-z]{2}[^s]s$", word):
                    found.append(f"{line}: {{{ast.unparse(value.value)}}}{after[:40]!r}: use core.counted")
    return found


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('f"{n} images"', 1),
        ('f"{n:,} more files are missing"', 1),
        ('f"{len(a)} of {len(b)} boxes"', 1),
        ('f"{n} people"', 1),
        ('f"{path} holds images"', 0),
        ('f"{MOST} images, {seconds:.1f} seconds, {w} x {h} pixels"', 0),
        ('f"{n} of them"', 0),
        ("f\"{counted(n, 'image')} are missing\"", 1),
        ("f\"missing: {counted(n, 'image')}\"", 0),
    ],
)
def test_uncounted_numbers_are_found(text, places):
    assert len(uncounted(text)) == places


def test_numbers_in_messages_agree_with_their_nouns():
    found = [f"{path.relative_to(SOURCE)}:{one}" for path in MODULES for one in uncounted(path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_numbers_in_pages_agree_with_their_nouns():
    count = re.compile(r"\{\{ [^}]*\|(?:number|length) \}\} (?!of\b)(?:[a-z]+ ){0,2}[a-z]{2,}[^s\W]s\b[^}]{0,20}")
    found = [
        f"{path.name}: {place}" for path in SOURCE.rglob("*.html") for place in count.findall(path.read_text("utf-8"))
    ]
    assert not found, "use number_of: " + "\n".join(found)


def test_notes_name_settings_as_they_are_typed():
    """`--tracker.lost-seconds`, not `tracker.lost_seconds`; in errors the command line puts the one for the other."""
    paths = {field.path for command in WITH_SETTINGS for field in describe(settings_class(command))}
    names = {name for path in paths for name in (path, path.rpartition(".")[2]) if "." in name or "_" in name}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note":
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                words = {word for text in texts for word in re.findall(r"(?<![\w./-])[a-z][a-z0-9_.]*\w", str(text))}
                assert not words & names, f"{path.relative_to(SOURCE)}:{node.lineno}"


def test_every_task_names_its_unit():
    """In the singular, as in `progress.task("copying", len(images), "image")`."""
    calls = [
        (f"{path.relative_to(SOURCE)}:{node.lineno}", node)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "task"
    ]
    assert len(calls) > 20
    for where, call in calls:
        unit = call.args[2] if len(call.args) == 3 else None
        assert isinstance(unit, ast.Constant), where
        assert re.fullmatch("[a-z]+[^s]", str(unit.value)), where
