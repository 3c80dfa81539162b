"""House rules that no linter knows: sizes, errors, unsafe loading, leftovers."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".json", ".jinja", ".sh", ""}
BIGGEST_TEXT = 200_000  # bytes; what is bigger was made by a program, such as a vocabulary
FOLDERS = ["src", "tests", "docs", "training", "model_cards", ".ci", ".github"]


def project_files() -> list[Path]:
    """Return our own files; a virtual environment or a cache is not ours."""
    below = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))
    files = [*ROOT.glob("*"), *ROOT.glob(".*"), *below]
    return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)


FILES = project_files()
TEXTS = [f for f in FILES if f.suffix in TEXT and f.stat().st_size < BIGGEST_TEXT]
CODE = [file for file in FILES if file.suffix == ".py" and "model_cards" not in file.parts]
SOURCE = [file for file in CODE if file.is_relative_to(ROOT / "src")]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def walk(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text("utf-8"))))


@pytest.mark.parametrize("file", CODE, ids=name)
def test_a_file_fits_in_the_head(file):
    limit = 500 if "remote_code" in file.parts else 400
    lines = len(file.read_text("utf-8").splitlines())

    assert lines <= limit, f"{name(file)} has {lines} lines, at most {limit}: split it by concept"


@pytest.mark.parametrize("file", CODE, ids=name)
def test_errors_are_caught_by_name(file):
    for node in walk(file):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            broad = not caught or re.search(r"\b(Base)?Exception\b", caught)
            assert not broad, f"{name(file)}:{node.lineno} name the errors you expect"


@pytest.mark.parametrize("file", SOURCE, ids=name)
def test_nothing_unpickles(file):
    unsafe = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    for node in walk(file):
        where = f"{name(file)}:{getattr(node, 'lineno', 0)} use safetensors or JSON"
        if isinstance(node, ast.Import):
            assert not unsafe & {alias.name.split(".")[0] for alias in node.names}, where
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] not in unsafe, where
        elif isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"torch.load", "torch.save"}, where


def test_every_todo_has_an_issue():
    marker = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b(?!\(#\d+\))")
    found = [
        f"{name(file)}:{number}"
        for file in CODE
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if marker.search(line)
    ]

    assert found == []


def test_no_file_names_a_place_on_one_machine():
    place = re.compile(
        r"(?<![\w.$}/-])/(work/|root/|home/\w|Users/\w|tmp/\w|mnt/\w|opt/\w|workspace/)"
        r"|\blocalhost\b|\b(?:10|192\.168|127)(?:\.\d{1,3}){2,3}\b"
    )
    found = [
        f"{name(file)}:{number} {match.group()}"
        for file in TEXTS
        if file != Path(__file__)
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if (match := place.search(line))
    ]

    assert found == []


def test_text_files_are_clean():
    found = []
    for file in TEXTS:
        text = file.read_bytes().decode("utf-8")
        if "\r" in text or (text and not text.endswith("\n")):
            found.append(name(file))

    assert found == [], "lines end in \\n, the last one too"


def test_the_version_has_one_value():
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/hf_nar/__init__.py").read_text())[1]

    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_the_package_file_stays_short():
    assert len((ROOT / "src/hf_nar/__init__.py").read_text().splitlines()) < 60
