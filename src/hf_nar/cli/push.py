"""`hf-nar push`: a model folder goes to the Hub, checked, in one commit."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from hf_nar import __version__
from hf_nar.cli.check import TrustRemoteCode

if TYPE_CHECKING:
    from hf_nar.hub.folder_files import FolderFiles
    from hf_nar.hub.repository import Pushed, Target


def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a model, or of a teacher.")],
    name: Annotated[str, typer.Argument(help="Id on the Hub: owner/name.")],
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Everyone may read it. Without it, a new repository is private, and one that is "
            "public already is refused.",
        ),
    ] = False,
    tag: Annotated[
        str | None,
        typer.Option(
            "--tag", "--revision-tag", help="Name of this version, such as v1.0, for `revision=`."
        ),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What the commit says.")] = None,
    space: Annotated[
        bool, typer.Option("--space", help="Also upload a Space of the same id: a demo.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check and list the files; ask and tell the Hub nothing."),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Check a model folder and upload it to the Hub, in one commit.

    It must load in a process that has transformers and torch alone; its weights must be
    safetensors, and its card complete and in agreement with its results. Otherwise nothing is
    sent. Hidden files, links and folders below stay here.
    """
    from hf_nar.hub.folder_files import FolderFiles
    from hf_nar.hub.repository import Target, look_up, upload

    _show_no_progress_to_files()
    text = message or f"Upload {folder.resolve().name} with hf_nar {__version__}"
    if not text.strip():
        raise ValueError("`--message` must say something, but is empty. Leave it out.")
    targets = [Target(name, public, tag)]
    if space:
        _check_gradio()
        targets.append(Target(name, public, kind="space"))
    FolderFiles.of(folder)  # what can be refused at once is
    repositories = [] if dry_run else [look_up(target) for target in targets]
    with TemporaryDirectory() as temporary:
        copy, page = Path(temporary, "model", folder.resolve().name), Path(temporary, "space")
        files = _checked_copy(folder, copy, name, trust_remote_code)
        if dry_run:
            _print_plan(targets[0], files.sent, files.left_out)
        else:
            done = upload(copy, repositories[0], text)
            _print_done(done, len(files.sent))
        if space:
            _write_space(page, folder, name, tag or ("main" if dry_run else done.commit))
            pages = {file.name: file.stat().st_size for file in sorted(page.iterdir())}
            if dry_run:
                _print_plan(targets[1], pages, {})
            else:
                _print_done(upload(page, repositories[1], text), len(pages))


def _show_no_progress_to_files() -> None:
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()


def _check_gradio() -> None:
    if find_spec("gradio") is None:
        raise ValueError(
            "`--space` needs gradio, whose version the Space will have. Install it with "
            '`pip install "hf-nar[demo]"`.'
        )


def _checked_copy(folder: Path, copy: Path, name: str, trust: bool) -> FolderFiles:
    """Copy what is to be sent, checked, with the card as it is on the Hub."""
    from hf_nar.cli.quiet import quiet_libraries
    from hf_nar.hub.folder_check import check_folder, write_hub_card

    quiet_libraries()
    checked = check_folder(folder, copy, trust)
    if not trust:
        checked.require_own_code()
    write_hub_card(checked.facts, copy, name)
    return checked.files


def _write_space(page: Path, folder: Path, name: str, revision: str) -> None:
    from hf_nar.demo.about import about_model
    from hf_nar.demo.space import write_space

    about = about_model(str(folder))
    write_space(page, name, revision=revision, languages=about.languages, examples=about.examples)


def _print_plan(target: Target, sent: dict[str, int], left_out: dict[str, str]) -> None:
    from hf_nar.hub.folder_files import readable_size

    print(f"to {target.url}, {_access(target)}{_tag(target)}")
    for name, size in sent.items():
        print(f"{readable_size(size):>11}  {name}")
    print(f"{readable_size(sum(sent.values())):>11}  in {len(sent)} files")
    for name, reason in left_out.items():
        print(f"   left out  {name}: {reason}")


def _print_done(done: Pushed, count: int) -> None:
    target = done.target
    print(f"{target.url}: {count} files, {_access(target)}, commit {done.commit}{_tag(target)}")
    for name in done.deleted:
        print(f"   deleted  {name}: not in the folder")
    if target.kind == "space" and not target.public:
        print(
            f"   The model is private: give the Space a secret HF_TOKEN that may read it, on "
            f"{target.url}/settings"
        )


def _access(target: Target) -> str:
    return "public" if target.public else "private"


def _tag(target: Target) -> str:
    return f", tag {target.tag}" if target.tag else ""
