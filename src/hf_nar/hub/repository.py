"""A repository on the Hub: what it is before a push, and one commit that changes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from hf_nar.hub.client_errors import ConnectionFailure, check_token, explained

# Of an earlier push: what would be loaded, or run, beside the new files or in their place.
STALE = (".py", ".safetensors", ".safetensors.index.json")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
TAG = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}", re.ASCII)
NO_TAG = re.compile(r"main|[0-9a-f]{7,40}")  # a branch, or what looks like a commit


@dataclass(frozen=True)
class Target:
    """Where a folder goes.

    Args:
        repo_id: `owner/name`.
        public: Whether everyone may read it. It says what is expected of a repository that exists,
            and is never changed there.
        tag: Name of the new commit for those who pin a revision; None gives it none.
        kind: A model, or a Space.

    Raises:
        ValueError: If the id or the tag cannot be one.
    """

    repo_id: str
    public: bool = False
    tag: str | None = None
    kind: Literal["model", "space"] = "model"

    def __post_init__(self) -> None:
        if not REPO_ID.fullmatch(self.repo_id):
            raise ValueError(
                f"A repository must be named owner/name, got {self.repo_id!r}. `hf auth whoami` "
                f"says which owners you may write to."
            )
        if self.tag is not None and not _can_be_tag(self.tag):
            raise ValueError(
                f"`--tag` must be a name such as v1.0, and not look like a commit; got "
                f"{self.tag!r}."
            )

    @property
    def url(self) -> str:
        """Address of the repository's page."""
        return f"{HfApi().endpoint}/{'spaces/' if self.kind == 'space' else ''}{self.repo_id}"

    def __str__(self) -> str:
        return f"{'the Space ' if self.kind == 'space' else ''}{self.repo_id}"


@dataclass(frozen=True)
class Repository:
    """A target as it was found.

    Args:
        target: The target.
        head: Its newest commit; None if it is not there yet.
        files: Names of the files that it holds.
    """

    target: Target
    head: str | None
    files: frozenset[str]


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Args:
        target: The target.
        commit: The new commit; or the newest one, if the repository held the same files already.
        is_new: Whether the repository was made.
        deleted: Files of an earlier push that were deleted.
    """

    target: Target
    commit: str
    is_new: bool
    deleted: list[str]


def look_up(target: Target) -> Repository:
    """Ask the Hub who we are and what is there; nothing is changed.

    Raises:
        OSError: If there is no token, the Hub does not accept it, or it cannot be reached.
        ValueError: If the repository is public and should be private or the other way around, or
            has the tag already.
    """
    check_token()
    api = HfApi()
    with explained(f"push to {target}"):
        api.whoami()
        try:
            found: Any = api.repo_info(target.repo_id, repo_type=target.kind)
        except RepositoryNotFoundError:
            return Repository(target, None, frozenset())
        references = api.list_repo_refs(target.repo_id, repo_type=target.kind)
    if bool(found.private) == target.public:
        raise ValueError(
            f"A push must not change who may read {target}: it is "
            + (
                "private. Leave out `--public`, or make it public on its page first."
                if found.private
                else "public. Give `--public` if everyone may read what you push."
            )
        )
    if target.tag in {reference.name for reference in [*references.tags, *references.branches]}:
        raise ValueError(
            f"A tag must be new, as others may rely on the old one, but {target} has "
            f"{target.tag!r} already. Choose another."
        )
    names = frozenset(sibling.rfilename for sibling in found.siblings or ())
    return Repository(target, str(found.sha), names)


def upload(folder: Path, repository: Repository, message: str) -> Pushed:
    """Send all files of a folder in one commit, and tag it; make the repository if need be.

    Code and weights of an earlier push that the folder does not hold are deleted in the same
    commit. The commit is on top of what `look_up` saw, or fails.

    Args:
        folder: A folder that holds nothing but the files to send.
        repository: Where to.
        message: Of the commit.

    Raises:
        OSError: If the Hub refuses, or the connection breaks; the message says what is there now.
    """
    target, api = repository.target, HfApi()
    files = (file for file in folder.rglob("*") if file.is_file())
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    stale = sorted(name for name in repository.files - set(names) if name.endswith(STALE))
    operations: list[Any] = [
        *(CommitOperationAdd(name, folder / name) for name in names),
        *(CommitOperationDelete(name) for name in stale),
    ]
    try:
        if repository.head is None:
            _create(api, target)
        # Not `upload_folder`, which makes several commits of a large folder.
        with explained(f"upload to {target}"):
            made = api.create_commit(
                target.repo_id,
                operations,
                commit_message=message,
                repo_type=target.kind,
                parent_commit=repository.head,
            )
    except (OSError, ValueError) as error:
        raise OSError(f"{error} {_state(api, repository)}") from error
    if target.tag is not None:
        _tag(api, target, made.oid)
    return Pushed(target, made.oid, repository.head is None, stale)


def _create(api: HfApi, target: Target) -> None:
    sdk = {"space_sdk": "gradio"} if target.kind == "space" else {}
    options: dict[str, Any] = {"private": not target.public, "repo_type": target.kind, **sdk}
    with explained(f"create {target}"):
        api.create_repo(target.repo_id, **options)


def _tag(api: HfApi, target: Target, commit: str) -> None:
    try:
        with explained(f"tag {target}"):
            api.create_tag(
                target.repo_id, tag=str(target.tag), revision=commit, repo_type=target.kind
            )
    except OSError as error:
        raise OSError(
            f"{error} All files are there, as commit {commit}; push again for the tag alone."
        ) from error


def _state(api: HfApi, repository: Repository) -> str:
    """Say what is there after a failure: the Hub's answer to what it did may have been lost."""
    target = repository.target
    try:
        now: Any = api.repo_info(target.repo_id, repo_type=target.kind)
    except RepositoryNotFoundError:
        return "Nothing was created, and no file arrived."
    except (ConnectionFailure, OSError):
        return f"Whether anything arrived is not known: look at {target.url} and push again."
    files = [sibling.rfilename for sibling in now.siblings or ()]
    is_empty = all(name.startswith(".") for name in files)  # the Hub's own .gitattributes
    if repository.head is None and is_empty:
        return f"No file arrived: {target} was created, is empty, and stays for the next push."
    if repository.head == now.sha:
        return f"No file arrived: {target} is as it was."
    return f"All the same {target} has a new commit, {now.sha}: push again to be sure of it."


def _can_be_tag(name: str) -> bool:
    is_name = TAG.fullmatch(name) and ".." not in name and not name.endswith((".", ".lock"))
    return bool(is_name) and not NO_TAG.fullmatch(name)
