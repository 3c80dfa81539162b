"""`hf-nar check`: whether a model folder is fit for the Hub, and its code the package's."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from hf_nar.cli.quiet import quiet_libraries

OTHER_CODE = 1
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the folder's code, and in a push send it, although it is not the installed "
        "package's.",
    ),
]


def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a model, or of a teacher.")],
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="First give the folder the code of the installed package, and name it in "
            "config.json.",
        ),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Compare a model folder's code with the package's, and check all that `hf-nar push` does.

    Exit codes: 0 the folder is fit for the Hub, and its code is the installed package's; 1 its
    code differs or is missing, from an older version perhaps; 2 it is not fit.
    """
    quiet_libraries()
    from hf_nar.hub.code_state import code_state, is_ours, read_config
    from hf_nar.hub.folder_check import check_folder
    from hf_nar.hub.folder_files import FolderFiles, readable_size
    from hf_nar.training.code_files import write_code

    FolderFiles.of(folder)
    if fix and is_ours(read_config(folder)):
        write_code(folder)
    for name, state in code_state(folder).items():
        print(f"{state:<8} {name}")
    with TemporaryDirectory() as temporary:
        checked = check_folder(folder, Path(temporary, folder.resolve().name), trust_remote_code)
    if checked.other_code:
        loaded = "was loaded" if trust_remote_code else "was not loaded"
        print(
            f"hf-nar: the code in {folder} is not the installed package's, and {loaded}. Renew it "
            f"with `hf-nar check {folder} --fix`.",
            file=sys.stderr,
        )
        raise typer.Exit(OTHER_CODE)
    print(f"{folder} is fit for the Hub: {len(checked.files.sent)} files, ", end="")
    print(f"{readable_size(checked.files.size)}.")
