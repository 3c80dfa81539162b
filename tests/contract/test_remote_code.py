"""The flat folder `remote_code` survives the trip to a model folder on the Hub.

transformers finds the files to copy with a regular expression over the text, so text is checked
as well as syntax.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "src/hf_nar/remote_code"
FILES = sorted(FOLDER.rglob("*.py"))
ALLOWED = {"torch", "transformers", "huggingface_hub", *sys.stdlib_module_names}
COPIED = re.compile(r"^\s*(?:from\s+\.(\S+)\s+import|import\s+\.(\S+)\s*$)", re.MULTILINE)

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def nodes(file: Path, *kinds: type[ast.AST]) -> list[ast.AST]:
    return [
        node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, kinds)
    ]


@each_file
def test_the_folder_is_flat(file):
    assert file.parent == FOLDER, "a Hub folder has no sub-folders"


@each_file
def test_our_own_imports_name_a_sibling(file):
    for node in nodes(file, ast.ImportFrom):
        where = f"{file.name}:{node.lineno}"
        if node.level:
            assert node.level == 1, f"{where} one dot only: the Hub folder has no parent"
            assert node.module, f"{where} `from . import x` is not copied; write `from .x import y`"
            assert (FOLDER / f"{node.module}.py").is_file(), f"{where} no sibling {node.module}.py"


@each_file
def test_other_imports_are_there_for_every_user(file):
    for node in nodes(file, ast.Import, ast.ImportFrom):
        if isinstance(node, ast.ImportFrom):
            names = set() if node.level else {node.module.split(".")[0]}
        else:
            names = {alias.name.split(".")[0] for alias in node.names}
        assert names <= ALLOWED, f"{file.name}:{node.lineno} users may lack {names - ALLOWED}"


@each_file
def test_imports_stand_at_the_top(file):
    top = ast.parse(file.read_text("utf-8")).body
    for node in nodes(file, ast.Import, ast.ImportFrom):
        assert any(node.lineno == other.lineno for other in top), (
            f"{file.name}:{node.lineno} transformers copies imports wherever they stand; "
            "put them at the top, where a reader sees what travels"
        )


@each_file
def test_the_text_names_the_files_that_the_code_imports_and_no_others(file):
    found = {first or second for first, second in COPIED.findall(file.read_text("utf-8"))}
    imported = {node.module for node in nodes(file, ast.ImportFrom) if node.level}

    assert found == imported, (
        f"{file.name} has a docstring or comment line that reads as an import, or an import that "
        f"transformers does not see: {found ^ imported}"
    )


@each_file
def test_no_string_holds_a_line_that_reads_as_an_import(file):
    for node in nodes(file, ast.Constant):
        if isinstance(node.value, str):
            assert not re.search(r"^\s*(from|import)\s+\.", node.value, re.MULTILINE), (
                f"{file.name}:{node.lineno} transformers would take this text for an import; "
                "begin the line with >>>"
            )


@each_file
def test_no_type_checking_imports(file):
    assert "TYPE_CHECKING" not in file.read_text("utf-8"), (
        f"{file.name}: what is imported under TYPE_CHECKING is copied to the Hub too"
    )


@each_file
def test_no_import_by_name_at_run_time(file):
    text = file.read_text("utf-8")

    assert "importlib" not in text, f"{file.name}: transformers does not see such an import"
    assert "__import__" not in text, f"{file.name}: transformers does not see such an import"
    assert "hf_nar." not in text or not re.search(r"^\s*(from|import)\s+hf_nar", text, re.M)


def test_class_names_are_unique():
    owners: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, []).append(file.name)

    assert {name: files for name, files in owners.items() if len(files) > 1} == {}


def test_file_names_still_mean_something_in_a_model_folder():
    bare = {"utils", "layers", "model", "config", "losses", "common", "helpers", "generation"}

    assert [file.name for file in FILES if file.stem in bare] == []


def test_nothing_lives_in_the_package_file():
    body = ast.parse((FOLDER / "__init__.py").read_text("utf-8")).body

    assert all(isinstance(node, ast.Expr) for node in body), "__init__.py is not copied to the Hub"
