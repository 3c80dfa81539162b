"""transformers' own tests of models pass on both families, but for what the tables below name.

They lie in the source distribution of each release, which is fetched; nothing of it is kept here.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import transformers

SUITE = Path(__file__).with_name("library_suite.py")
PASSING_SHARE = 0.9
TESTS_AT_LEAST = 150  # of both families; fewer were not really run
# What the tests import that the distribution lacks: of generation from left to right, and export.
STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin: ...\n",
    "generation/test_utils.py": "class GenerationTesterMixin: ...\n",
}

# Reasons that the library gives, and why they hold for us: such tests ask for what is not there.
NOT_FOR_US = {
    r"requires (multiple )?(accelerator|MPS)": "hardware that a machine for these tests lacks",
    r"requires Flash Attention": "a kernel for GPUs; our attention is eager or sdpa",
    r"requires (the kernels library|deepspeed)": "a library that we do not need",
    r"test is slow": "minutes of compilation",
    r"Not a prioritized model": "the library's own list of models",
    r"composite|No subconfigs": "one network, not several with a config each",
    r"cache": "nothing is decoded from left to right, so nothing is cached",
    r"decoder-only": "our models have an encoder",
    r"Cannot capture hidden states|capture_outputs": "layers write states down, without hooks",
    r"does not support grouped_mm|sparse experts|output_router_logits": "no mixture of experts",
    r"does not support SDPA": "said of models of one part only, in a test of several parts",
    r"No conversion found": "weights are saved as they are, with no names to convert",
    r"_keep_in_fp32_modules": "all weights may have any dtype",
    r"RoPE|rope": "positions are sinusoids",
    r"position embeddings": "positions are sinusoids, which have no weights to resize",
    r"sliding window": "attention sees the whole sentence",
    r"TP plan": "a network of this size fits one device",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return the outcome of each test of the library: None, or what kept it from passing."""
    folder = tmp_path_factory.mktemp("suite")
    _fetch_tests(folder)
    report = folder / "report.xml"
    command = ["-m", "pytest", "library_tests/test_families.py", "--quiet", "--rootdir", "."]
    options = ["--config-file", os.devnull, "--disable-warnings", f"--junit-xml={report}"]
    own = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, *command, *options, "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    assert report.is_file(), result.stdout[-3000:] + result.stderr[-3000:]
    return {
        f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}": _trouble(case)
        for case in ElementTree.parse(report).iter("testcase")
    }


def _fetch_tests(folder: Path) -> None:
    """Put the tests of the installed release and what they need into `folder`."""
    version = transformers.__version__
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
    subprocess.run(
        [*pip, "transformers", "--dest", str(folder), f"transformers=={version}"], check=True
    )
    [archive] = folder.glob("*.tar.gz")
    target = folder / "library_tests"
    for name, text in STAND_INS.items():
        (target / name).parent.mkdir(parents=True)
        (target / name).write_text(text)
        (target / name).with_name("__init__.py").touch()
    (target / "__init__.py").touch()
    with tarfile.open(archive) as packed:
        source = packed.extractfile(f"transformers-{version}/tests/test_modeling_common.py")
        (target / "test_modeling_common.py").write_bytes(source.read())
    shutil.copyfile(SUITE, target / "test_families.py")


def _trouble(case: ElementTree.Element) -> tuple[str, str] | None:
    """Return "skipped", "failure" or "error" with its message."""
    for kind in ("error", "failure", "skipped"):
        found = case.find(kind)
        if found is not None:
            return kind, str(found.get("message"))
    return None


@pytest.mark.slow
def test_nine_in_ten_pass_of_what_can_be_asked_of_our_models(outcomes):
    asked = {
        name: trouble
        for name, trouble in outcomes.items()
        if trouble is None or trouble[0] != "skipped"
    }
    passed = [name for name, trouble in asked.items() if trouble is None]

    assert len(passed) >= TESTS_AT_LEAST
    assert len(passed) >= PASSING_SHARE * len(asked), sorted(asked.keys() - set(passed))


@pytest.mark.slow
def test_no_test_of_the_library_fails(outcomes):
    failed = {name: found for name, found in outcomes.items() if found and found[0] != "skipped"}

    assert failed == {}


@pytest.mark.slow
def test_each_skip_has_a_reason_that_is_in_the_tables(outcomes):
    known = re.compile("|".join(NOT_FOR_US))
    skipped = {name: found[1] for name, found in outcomes.items() if found}

    unknown = {name: reason for name, reason in skipped.items() if not known.search(reason)}

    assert unknown == {}
