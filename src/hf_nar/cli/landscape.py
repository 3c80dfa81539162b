"""`hf-nar landscape`: the likelihood around the latents of one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from hf_nar.cli.called import CALLED
from hf_nar.cli.quiet import quiet_libraries


def landscape(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a hf_nar model with latents.")],
    source: Annotated[str, typer.Option(help="Source sentence.")],
    target: Annotated[str, typer.Option(help="Its reference translation.")],
    iterations: Annotated[int, typer.Option(help="Refinement iterations at most.")] = 4,
    resolution: Annotated[int, typer.Option(help="Points of the grid along each axis.")] = 41,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Results file; replaces what this command wrote there before."),
    ] = None,
) -> None:
    """Follow the latents of one sentence, and measure the target's likelihood around them.

    Draw the result with `hf-nar plot latent`.
    """
    from hf_nar.evaluation.latent_space import measure_latent_space  # late: this loads torch
    from hf_nar.evaluation.results import check_results_file, environment, write_results
    from hf_nar.evaluation.traces import escape_controls
    from hf_nar.inference import Translator

    quiet_libraries()
    if output:
        check_results_file(output)
    translator = Translator.from_pretrained(model, device=device)
    space = measure_latent_space(translator, source, target, iterations, resolution)
    print("point                x        y  distance  log p(target) in nats  draft")
    for point in space.points:
        text = escape_controls(" ".join(point.draft))
        print(
            f"{point.label:<14} {point.x:7.3f}  {point.y:7.3f}  {point.distance:8.3f}  "
            f"{point.log_likelihood:21.2f}  {text}"
        )
    print(f"The plane explains {space.explained:.1%} of the spread.")
    if output:
        content = {
            "environment": environment(translator.model.device),
            "dtype": str(translator.model.dtype).removeprefix("torch."),
            **dataclasses.asdict(space),
        }
        write_results(output, "latent_space", model, CALLED.get(), content)
