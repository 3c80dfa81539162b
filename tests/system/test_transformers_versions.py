"""A folder that was exported with the installed transformers works with older ones and the newest.

Each is installed into an environment of its own, where torch and accelerate are those of the tests.
"""

import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
from stranger import TEXTS, look_at_folders
from tiny_exports import export_families

from hf_nar.inference import Translator

VERSIONS = ["==5.10.*", "==5.17.*", ">=5.10,<6"]
SAME_SEQUENCES = {"float32", "device map", "low memory", "eager", "sdpa"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(_loaded_tokenizer, tmp_path_factory):
    """Return the folder of each family, as the installed transformers writes it."""
    return export_families(tmp_path_factory.mktemp("export"), _loaded_tokenizer)


@pytest.fixture(scope="module", params=VERSIONS)
def python(request, tmp_path_factory):
    """Return the Python of an environment with one release of transformers, and the release."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = sysconfig.get_path("purelib", scheme="venv", vars=paths)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    wanted = f"transformers{request.param}"
    subprocess.run([*pip, "--target", packages, wanted], check=True)
    # What it lacks is taken from here; what it has is found first.
    Path(packages, "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return f"{sysconfig.get_path('scripts', scheme='venv', vars=paths)}/python", request.param


@pytest.fixture(scope="module")
def found(python, exported, tmp_path_factory):
    """Return what a process with that release found in the folders."""
    again = tmp_path_factory.mktemp("again")
    folders = {family: (folder, again / family) for family, folder in exported.items()}
    return look_at_folders(folders, home=tmp_path_factory.mktemp("home"), python=python[0])


@pytest.fixture(params=["lanmt", "refinement_nar"])
def family(request):
    return request.param


@pytest.fixture
def expected(exported, family):
    return Translator.from_pretrained(exported[family], device="cpu")


def test_it_ran_with_the_release_that_was_asked_for(found, family, python):
    release = re.match(r"==(\d+\.\d+)\.\*", python[1])

    assert found[family]["transformers"].startswith(release[1] if release else "5.")


def test_however_it_is_loaded_it_translates_as_here(found, family, expected):
    batch = expected.tokenizer(TEXTS, return_tensors="pt", padding=True)
    sequences = expected.model.generate(**batch).tolist()
    logits = expected.model(**batch).logits

    assert found[family]["base"]["sequences"] == sequences
    for way in SAME_SEQUENCES:
        result = found[family]["ways"][way]
        assert result["sequences"] == sequences, way
        assert result["class"][0].startswith("transformers_modules."), way
        torch.testing.assert_close(torch.tensor(result["logits"]), logits, atol=1e-4, rtol=1e-4)
    assert found[family]["ways"]["eager"]["attention"] == "eager"


def test_config_and_knobs_are_found_and_bfloat16_is_what_was_saved(found, family):
    ways = found[family]["ways"]

    assert found[family]["config"][0] == family
    assert found[family]["knobs"]["num_refinement_iterations"] == 2
    for way in ("as saved", "bfloat16"):
        assert ways[way]["dtype"] == "torch.bfloat16"
        assert torch.isfinite(torch.tensor(ways[way]["logits"])).all()


def test_pipeline_and_handler_translate_as_here(found, family, expected):
    translations = expected(TEXTS)

    for kind in ("pipeline", "pipeline again"):
        assert found[family][kind]["list"] == translations, kind
    assert found[family]["task"] == ["translation", translations]
    assert found[family]["handler"] == translations
