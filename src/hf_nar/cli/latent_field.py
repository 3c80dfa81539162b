"""What `hf-nar plot latent-field` measures before it draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hf_nar.cli.called import CALLED
from hf_nar.cli.quiet import quiet_libraries


def measure_field(
    model: str, text: str, output: Path, device: str | None = None, **options: Any
) -> None:
    """Measure the latent field of one sentence, and write it to a results file.

    Args:
        model: Folder or Hub id of a LaNMT with score or energy network.
        text: The sentence.
        output: Results file; what was measured before is replaced.
        device: Such as "cpu" or "cuda"; None chooses.
        **options: Of `measure_latent_field`.

    Raises:
        OSError: If the model cannot be read, or the file not be written.
        ValueError: If the model has no refiner, or an option is wrong.
    """
    from hf_nar.evaluation.latent_field import measure_latent_field  # late: this loads torch
    from hf_nar.evaluation.results import check_results_file, environment, write_results
    from hf_nar.inference import Translator

    quiet_libraries()
    check_results_file(output)
    translator = Translator.from_pretrained(model, device=device)
    field = measure_latent_field(translator, text, **options)
    content = {
        "environment": environment(translator.model.device),
        "dtype": str(translator.model.dtype).removeprefix("torch."),
        **dataclasses.asdict(field),
    }
    write_results(output, "latent_field", model, CALLED.get(), content)
