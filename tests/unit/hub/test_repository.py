"""What the real client and a Hub in memory make of uploads, and of all that goes wrong."""

import pytest
from hub_clients import UPLOADS, client, says
from local_hub import Account, LocalHub

NAME = "an-organization/a-model"
OWNERS = {"someone", "an-organization"}
FILES = {"README.md": b"# A model\n", "config.json": b"{}\n", "model.safetensors": b"weights"}
WRITER, READER, OTHER, WRONG = "hf_writer", "hf_reader", "hf_other", "hf_unknown-to-the-hub"
COMMIT = f"POST /api/models/{NAME}/commit"


@pytest.fixture(scope="module")
def server():
    with LocalHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def process(server, tmp_path_factory):
    with client(UPLOADS, server, tmp_path_factory.mktemp("client") / "home") as started:
        yield started


@pytest.fixture
def hub(server):
    server.accounts = {
        WRITER: Account("someone", OWNERS),
        READER: Account("someone", OWNERS, can_write=False),
        OTHER: Account("somebody-else", {"somebody-else"}),
    }
    for part in (server.repositories, server.objects, server.faults, server.requests):
        part.clear()
    return server


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def push(process, folder):
    def ask(token=WRITER, **options):
        return process.ask({"folder": str(folder), "repo_id": NAME, **options}, token)

    return ask


def model(hub):
    return hub.repositories["model", NAME]


def test_a_new_repository_is_private_and_gets_all_files_in_one_commit_with_its_tag(hub, push):
    pushed = push(tag="v1.0")

    assert pushed == {"commit": model(hub).head, "is_new": True, "deleted": []}
    assert model(hub).private
    assert model(hub).messages == ["initial commit", "a message"]
    assert model(hub).files == {".gitattributes": b"", **FILES}
    assert model(hub).tags == {"v1.0": model(hub).head}


def test_a_public_one_is_made_on_request(hub, push):
    push(public=True)

    assert not model(hub).private


def test_a_space_is_of_its_own_kind(hub, push):
    push(kind="space")

    assert list(hub.repositories) == [("space", NAME)]


def test_code_and_weights_of_an_earlier_push_are_deleted_and_nothing_else(hub, push):
    stale = {"old.py": b"", "model-00001-of-00002.safetensors": b"", "notes.txt": b"by hand"}
    hub.add(NAME, {**stale, "config.json": b"old"}, private=True)

    pushed = push()

    assert pushed["deleted"] == ["model-00001-of-00002.safetensors", "old.py"]
    assert pushed["is_new"] is False
    assert model(hub).files == {".gitattributes": b"", "notes.txt": b"by hand", **FILES}


def test_the_same_files_again_are_no_new_commit_and_can_be_tagged(hub, push):
    first = push()

    again = push(tag="v1.0")

    assert again["commit"] == first["commit"] == model(hub).tags["v1.0"]
    assert len(model(hub).commits) == 2


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "Cannot push to .*: the Hub must know who you are, but there is no token"),
        (WRONG, "Cannot push to .*: the Hub does not accept your token. Run `hf auth login`"),
        ("hf_with\x07in", "A token of the Hub must be one word of plain letters"),
        (READER, "Cannot create .*: your token may not do this.*Nothing was created"),
        (OTHER, "Cannot create .*: your token may not do this.*Nothing was created"),
    ],
    ids=["none", "wrong", "not a word", "reader", "other owner"],
)
def test_without_the_right_token_nothing_is_created_and_it_is_not_shown(token, message, hub, push):
    error = push(token)["error"]

    assert says(message, error)
    assert hub.repositories == {}
    assert token is None or token not in error


def test_a_private_repository_of_others_is_not_touched(hub, push):
    before = dict(hub.add(NAME, {"secret.txt": b"theirs"}, private=True).commits)

    errors = [push(token)["error"] for token in (OTHER, WRONG, None)]

    assert says("your token may not do this", errors[0])
    assert says("the Hub does not accept your token", errors[1])
    assert says("there is no token", errors[2])
    assert model(hub).commits == before


def test_who_may_only_read_uploads_nothing(hub, push):
    before = dict(hub.add(NAME, {}, private=True).commits)

    error = push(READER)["error"]

    assert says("Cannot upload to .*: your token may not do this.*is as it was", error)
    assert model(hub).commits == before
    assert hub.objects == {}


@pytest.mark.parametrize(("private", "public"), [(True, True), (False, False)])
def test_a_push_never_changes_who_may_read(private, public, hub, push):
    before = dict(hub.add(NAME, {}, private=private).commits)

    error = push(public=public)["error"]

    assert says("must not change who may read", error)
    assert model(hub).commits == before
    assert model(hub).private is private


def test_a_tag_that_exists_stays_where_it_is(hub, push):
    repository = hub.add(NAME, {}, private=True)
    repository.tags["v1.0"] = repository.head

    error = push(tag="v1.0")["error"]

    assert says("A tag must be new.* has 'v1.0' already", error)
    assert len(repository.commits) == 1


@pytest.mark.parametrize("fault", ["cut", 400, 500])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_commit_that_breaks_off_leaves_no_file(fault, is_new, hub, push):
    if not is_new:
        hub.add(NAME, {"config.json": b"old"}, private=True)
    hub.faults[COMMIT] = fault

    error = push(tag="v1.0")["error"]

    state = "was created, is empty, and stays" if is_new else "is as it was"
    assert says(f"Cannot upload to {NAME}: .* No file arrived: {NAME} {state}", error)
    assert set(model(hub).files) - {".gitattributes"} == (set() if is_new else {"config.json"})
    assert model(hub).tags == {}
    hub.faults.clear()
    assert push(tag="v1.0")["commit"] == model(hub).head
    assert model(hub).files.items() >= FILES.items()


def test_weights_that_are_refused_leave_no_file(hub, push):
    hub.faults["PUT /lfs/"] = 403

    error = push()["error"]

    assert says("Cannot upload to .*No file arrived", error)
    assert set(model(hub).files) == {".gitattributes"}


def test_a_lost_answer_to_a_commit_is_told_from_a_failure(hub, push):
    hub.faults[COMMIT] = "lost"

    error = push()["error"]

    assert says(f"All the same {NAME} has a new commit, {model(hub).head}: push again", error)
    assert model(hub).files.items() >= FILES.items()


def test_a_commit_by_others_in_between_is_kept(hub, push):
    repository = hub.add(NAME, {}, private=True)
    hub.faults[COMMIT] = lambda: repository.commit({"config.json": b"theirs"}, "their message")

    error = push()["error"]

    assert says("someone else changed the repository at the same time", error)
    assert repository.messages == ["initial commit", "their message"]
    assert repository.files == {"config.json": b"theirs"}


def test_the_tag_stays_with_what_was_pushed(hub, push):
    repository = hub.add(NAME, {}, private=True)
    hub.faults["/tag/"] = lambda: repository.commit({"config.json": b"theirs"}, "their message")

    pushed = push(tag="v1.0")

    assert repository.messages == ["initial commit", "a message", "their message"]
    assert repository.tags == {"v1.0": pushed["commit"]} == {"v1.0": list(repository.commits)[1]}


def test_a_tag_that_fails_says_that_the_files_are_there(hub, push):
    hub.faults["/tag/"] = 500

    error = push(tag="v1.0")["error"]

    assert says(f"All files are there, as commit {model(hub).head}; push again", error)
    hub.faults.clear()
    push(tag="v1.0")
    assert model(hub).tags == {"v1.0": model(hub).head}
    assert len(model(hub).commits) == 2


def test_without_a_connection_there_is_one_sentence(hub, push):
    hub.faults["GET /api/whoami"] = "cut"

    error = push()["error"]

    assert says("Cannot push to .*: there is no connection to http", error)
    assert "\n" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo_id": "a-model"}, "must be named owner/name, got 'a-model'"),
        ({"repo_id": "a/b/c"}, "must be named owner/name"),
        ({"tag": "v1 0"}, "`--tag` must be a name such as v1.0"),
        ({"tag": "v1..0"}, "`--tag` must be"),
        ({"tag": "0123456789ab"}, "not look like a commit"),
        ({"tag": "main"}, "`--tag` must be"),
    ],
)
def test_names_that_cannot_be_are_refused_before_the_hub_is_asked(
    options, message, hub, process, folder
):
    hub.requests.clear()

    answer = process.ask({"folder": str(folder), "repo_id": NAME, **options}, WRITER)

    assert says(message, answer["error"])
    assert hub.requests == []
