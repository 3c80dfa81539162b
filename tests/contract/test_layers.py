"""Imports point one way: cli, cards, training, evaluation, data, inference, auto, remote_code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src/hf_nar"
FILES = sorted(PACKAGE.rglob("*.py"))

# May import rightwards, never leftwards.
LAYERS = [
    "cli",
    "hub",
    "demo",
    "cards",
    "plots",
    "training",
    "evaluation",
    "data",
    "captioner",
    "inference",
    "teacher",
    "images",
    "parallel",
    "packing",
    "auto",
    "remote_code",
]

# Inside remote_code: the beginning of a file's name, and the beginnings of those it may import.
NETWORK_PARTS = ("layers", "losses", "length_predictor", "latent_gaussian")
REMOTE_CODE = {
    "modeling": (
        *NETWORK_PARTS,
        "configuration",
        "modeling_nar",
        "generation",
        "refinement",
        "candidate_search",
        "corruption",
        "latent_refiners",
        "refiner_training",
        "output",
    ),
    "generation": ("decoding_knobs", "refinement_state", "candidate_search", "pipeline"),
    "pipeline": (),
    "handler": (),
    "decoding_knobs": (),
    "refinement_state": (),
    "refinement": ("refinement_state", "latent_drafts"),
    "latent_drafts": ("refinement_state",),
    "refinement_energy": ("refinement_score",),
    "refinement_none": ("refinement_delta_posterior",),
    "latent_refiners": ("layers_nar",),
    "refiner_training": ("refinement_state", "latent_drafts", "losses_nar"),
    "output": ("output_nar", "layers"),
    "candidate_search": ("refinement_state",),
    "configuration": ("configuration_nar", "corruption"),
    "corruption": (),
    **dict.fromkeys(NETWORK_PARTS, ("configuration",)),
}

each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))


def imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and full module name of each import below `node`, type checking apart."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module == "hf_nar":
            yield from ((child.lineno, f"hf_nar.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield child.lineno, str(child.module)
        yield from imports(child)


def layer_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


@each_file
def test_every_module_has_a_layer(file):
    assert layer_of(file) in {"__init__", *LAYERS}, "add it to LAYERS, and to CONTRIBUTING.md"


@each_file
def test_a_layer_imports_only_to_its_right(file):
    if layer_of(file) == "__init__":
        return
    here = LAYERS.index(layer_of(file))
    for line, module in imports(ast.parse(file.read_text("utf-8"))):
        root, _, rest = module.partition(".")
        target = rest.split(".")[0]
        if root == "hf_nar" and target != "__version__":
            assert target in LAYERS, f"{file.name}:{line} import the module itself, not {module}"
            assert LAYERS.index(target) >= here, f"{file.name}:{line} {LAYERS[here]} → {target}"


def test_the_package_itself_imports_nothing_of_ours():
    found = [name for _, name in imports(ast.parse((PACKAGE / "__init__.py").read_text("utf-8")))]

    assert [name for name in found if name.startswith("hf_nar")] == []


@pytest.mark.parametrize("file", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda f: f.name)
def test_commands_import_heavy_libraries_late(file):
    heavy = ("torch", "transformers", "datasets", "evaluate", "accelerate", "sacrebleu", "numpy")
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for line, module in imports(ast.Module(body=[node], type_ignores=[])):
            ours = module.startswith("hf_nar.") and not module.startswith("hf_nar.cli")
            is_late = module.split(".")[0] not in heavy and (
                module == "hf_nar.__version__" or not ours
            )
            assert is_late, f"{file.name}:{line} import {module} inside the function that needs it"


@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "remote_code").glob("[!_]*.py")), ids=lambda f: f.name
)
def test_networks_strategies_and_the_loop_keep_apart(file):
    kinds = [kind for kind in REMOTE_CODE if file.stem.startswith(kind)]
    assert kinds, f"{file.name} is of no known kind; add it to REMOTE_CODE in {Path(__file__).name}"
    allowed = REMOTE_CODE[max(kinds, key=len)]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert str(node.module).startswith(allowed), (
                f"{file.name}:{node.lineno} may not import {node.module}; it may import {allowed}"
            )
