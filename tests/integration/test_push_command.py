"""`hf-nar push` and what others get from it, by the real client and a Hub in memory."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from hub_clients import COMMANDS, client, environment, says
from local_hub import Account, LocalHub
from tiny_pushes import save_student

from hf_nar.inference import Translator

NAME = "an-organization/tiny-lanmt"
OWNER, STRANGER, WRONG = "hf_owner", "hf_stranger", "hf_unknown-to-the-hub"
TEXTS = ["Ein Hund läuft im Schnee.", "Ein Vogel sitzt unter dem Baum."]
LEFT_OUT = {".env": "hidden", "link.json": "a link", "checkpoints/": "a folder", "run.log": "kind"}
LOAD = """
import contextlib, io, json, sys
name, texts = json.loads(sys.argv[1])
sys.modules["hf_nar"] = None  # importing it fails from here on
import torch
from transformers import AutoModel, AutoTokenizer

def load(revision):
    where = {"revision": revision, "trust_remote_code": True}
    model = AutoModel.from_pretrained(name, dtype=torch.float32, **where).eval()
    tokenizer = AutoTokenizer.from_pretrained(name, **where)
    ids = model.generate(**tokenizer(texts, return_tensors="pt", padding=True))
    return {
        "module": type(model).__module__,
        "iterations": model.generation_config.num_refinement_iterations,
        "texts": tokenizer.batch_decode(ids, skip_special_tokens=True),
    }

found = {revision: load(revision) for revision in ("v1.0", "main")}
del sys.modules["hf_nar"]
from hf_nar.cli.main import main
from hf_nar.inference import Translator

found["translator"] = Translator.from_pretrained(name, revision="v1.0").translate(texts)
with contextlib.redirect_stdout(io.StringIO()) as out:
    code = main(["translate", name, *texts])
found["command"] = [code, out.getvalue().splitlines()]
print()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def hub():
    with LocalHub() as started:
        started.accounts = {
            OWNER: Account("someone", {"someone", "an-organization"}),
            STRANGER: Account("stranger", {"stranger"}),
        }
        yield started


@pytest.fixture(scope="module")
def process(hub, tmp_path_factory):
    with client(COMMANDS, hub, tmp_path_factory.mktemp("client") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def folder(_loaded_tokenizer, tmp_path_factory):
    """Return a model's folder, with things in it that must not be sent."""
    folder = save_student(tmp_path_factory.mktemp("export") / "tiny-lanmt", _loaded_tokenizer)
    (folder / ".env").write_text("HF_TOKEN=hf_" + 34 * "x")
    (folder / "run.log").write_text("step 1")
    (folder / "link.json").symlink_to(folder / "config.json")
    (folder / "checkpoints").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "checkpoints")
    return folder


def own_files(folder):
    names = {file.name for file in folder.iterdir() if file.is_file()}
    return {name: (folder / name).read_bytes() for name in names - LEFT_OUT.keys()}


@pytest.fixture(scope="module")
def pushed(hub, process, folder):
    """Return what the command said of a push of a model and its Space."""
    return process.ask(["push", str(folder), NAME, "--tag", "v1.0", "--space"], OWNER)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return where someone else keeps what they downloaded."""
    return tmp_path_factory.mktemp("stranger")


def load(hub, home, token=OWNER, **own):
    own["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps([NAME, TEXTS])],
        env=environment(hub, home, **own),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def found(hub, pushed, home):
    """Return what someone else, who has the token, finds on the Hub, where work has gone on."""
    repository = hub.repositories["model", NAME]
    knobs = json.loads(repository.files["generation_config.json"])
    changed = json.dumps({**knobs, "num_refinement_iterations": 0}).encode()
    repository.commit({**repository.files, "generation_config.json": changed}, "fewer iterations")
    done = load(hub, home)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected(folder):
    """Return the folder's own translations, with 2 iterations and with none."""
    translator = Translator.from_pretrained(folder)
    return [translator.translate(TEXTS, num_refinement_iterations=count) for count in (2, 0)]


def test_a_dry_run_lists_what_would_be_sent_and_asks_nobody(hub, process, folder):
    hub.requests.clear()

    answer = process.ask(["push", str(folder), NAME, "--dry-run"], OWNER)

    assert answer["code"] == 0, answer["err"]
    for name in own_files(folder):
        assert says(rf"\d (bytes|kB)  {name}\n", answer["out"])
    for name, reason in LEFT_OUT.items():
        assert says(f"left out  {name}: .*{reason}", answer["out"])
    assert hub.requests == []


def test_all_files_arrive_in_one_private_commit_with_its_tag(hub, pushed, folder):
    repository = hub.repositories["model", NAME]
    first = list(repository.commits)[1]

    assert pushed["code"] == 0, pushed["err"]
    assert says(f"{hub.url}/{NAME}: .*, private, commit {first}, tag v1.0\n", pushed["out"])
    assert repository.private
    assert repository.tags == {"v1.0": first}
    sent = dict(repository.commits[first])
    assert sent.pop(".gitattributes") == b""
    local = own_files(folder)
    card, own_card = (files.pop("README.md").decode() for files in (sent, local))
    assert sent == local
    assert card == own_card.replace('folder = "tiny-lanmt"', f'folder = "{NAME}"')
    assert card != own_card


def test_the_token_is_nowhere_in_what_was_sent_or_said(hub, pushed):
    contents = [content for repo in hub.repositories.values() for content in repo.files.values()]

    assert not any(OWNER.encode() in content for content in contents)
    assert OWNER not in pushed["out"] + pushed["err"]


def test_the_space_shows_the_tagged_model(hub, pushed):
    space = hub.repositories["space", NAME]

    assert space.private
    assert {"app.py", "requirements.txt", "README.md", "settings.json"} <= space.files.keys()
    settings = json.loads(space.files["settings.json"])
    assert [settings[key] for key in ("model", "revision")] == [NAME, "v1.0"]
    assert settings["languages"] == ["de", "en"]
    assert yaml.safe_load(space.files["README.md"].split(b"---")[1])["sdk"] == "gradio"
    assert says("give the Space a secret HF_TOKEN", pushed["out"])


def test_a_revision_loads_with_transformers_alone_and_stays_as_it_was(found, expected):
    tagged, newest = found["v1.0"], found["main"]

    assert tagged["module"].startswith("transformers_modules.")
    assert [tagged["iterations"], newest["iterations"]] == [2, 0]
    assert [tagged["texts"], newest["texts"]] == expected
    assert expected[0] != expected[1]


def test_the_package_translates_with_what_is_on_the_hub(found, expected):
    assert found["translator"] == expected[0]
    assert found["command"] == [0, expected[1]]


def test_it_works_from_the_cache_without_the_network(hub, found, home):
    hub.requests.clear()

    done = load(hub, home, HF_HUB_OFFLINE="1")

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == found
    assert hub.requests == []


@pytest.mark.parametrize("token", [STRANGER, WRONG])
def test_a_private_model_does_not_load_with_another_token(hub, pushed, process, token):
    answer = process.ask(["translate", NAME, *TEXTS], token)

    assert answer["code"] == 2
    assert says(f"hf-nar: error: Cannot load {NAME}", answer["err"])
    assert answer["out"] == ""


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (WRONG, "the Hub does not accept your token"),
        (None, "there is no token"),
    ],
)
@pytest.mark.parametrize("name", [NAME, "an-organization/not-there"])
def test_a_push_with_another_token_changes_nothing(
    hub, pushed, process, folder, token, message, name
):
    before = {key: list(repository.commits) for key, repository in hub.repositories.items()}

    answer = process.ask(["push", str(folder), name], token)

    assert answer["code"] == 2
    assert says(f"^hf-nar: error: [^\n]*{message}[^\n]*\n$", answer["err"])
    assert token is None or token not in answer["err"]
    assert {key: list(repo.commits) for key, repo in hub.repositories.items()} == before


def test_a_public_repository_is_not_pushed_to_by_chance(hub, process, folder):
    hub.add("someone/public", {"README.md": b"open"})

    answer = process.ask(["push", str(folder), "someone/public"], OWNER)

    assert answer["code"] == 2
    assert says("Give `--public` if everyone may read what you push", answer["err"])
    assert hub.repositories["model", "someone/public"].files["README.md"] == b"open"


def test_a_folder_that_is_not_fit_creates_nothing(hub, process, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "tiny-lanmt", symlinks=True)
    card = copy / "README.md"
    card.write_text(card.read_text("utf-8").replace("37.44", "38.44"), "utf-8")

    answer = process.ask(["push", str(copy), "someone/unfit"], OWNER)

    assert answer["code"] == 2
    assert says("must agree with its results", answer["err"])
    assert ("model", "someone/unfit") not in hub.repositories
