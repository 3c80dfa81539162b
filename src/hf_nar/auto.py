"""Load our models: make them known to the Auto classes, and say clearly what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration

MODEL_CLASSES: dict[Any, Any] = {
    LaNMTConfig: LaNMTForConditionalGeneration,
    RefinementNARConfig: RefinementNARForConditionalGeneration,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def register() -> None:
    """Let the Auto classes load our models with the code of this package.

    Afterwards the installed code wins over the copy in a model folder, whatever
    `trust_remote_code` says, and that flag is no longer needed. Calling it again does nothing.
    `Translator` and training call it; importing `hf_nar` does not.
    """
    for config_class, model_class in MODEL_CLASSES.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)
        AutoModelForSeq2SeqLM.register(config_class, model_class, exist_ok=True)


def model_types() -> list[str]:
    """Return the `model_type` of every model in this package, sorted."""
    return sorted(config_class.model_type for config_class in MODEL_CLASSES)


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use; None takes the GPU if there is one.

    Raises:
        ValueError: If torch does not know the device or cannot use it here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"`device` must be one that torch knows, such as cpu, cuda or cuda:1; got {device!r}."
        ) from error
    usable = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}
    if (picked.index or 0) >= usable.get(picked.type, 0):
        raise ValueError(f"`device` must be one of this machine, but it has no {picked}. Try cpu.")
    return picked


def pick_dtype(dtype: str | torch.dtype | None, device: torch.device) -> str | torch.dtype:
    """Return the dtype to load in; None takes float32 on the CPU and the saved one elsewhere.

    Raises:
        ValueError: If there is no such dtype.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}; got {dtype!r}.")
    return DTYPES[dtype]


def check_model_type(name: str, revision: str | None) -> None:
    """Check that a folder or Hub id is a model of ours.

    Raises:
        OSError: If there is no such model, or its config.json is missing or damaged.
        ValueError: If it is another library's model.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"A model folder must hold config.json, but {name} does not. Give the folder that "
                f"the model was saved to."
            )
    elif folder.is_file() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise FileNotFoundError(
            f"The model must be a folder or a Hub id like owner/name, but {name} is neither: "
            f"there is no such folder."
        )
    try:
        values, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    except OSError as error:
        hint = "Its config.json is damaged." if folder.is_dir() else "There is no such folder."
        raise OSError(f"Cannot load {name}. {hint} {_first_sentence(error)}") from error
    model_type = values.get("model_type")
    if model_type not in model_types():
        raise ValueError(
            f"The model must be one of hf_nar's ({', '.join(model_types())}), but {name} is "
            f"{model_type!r}. Load it with transformers itself."
        )


def hub_commit(hub_id: str, revision: str | None) -> str:
    """Return the commit of a model on the Hub: the library's cache has a folder for each."""
    return Path(str(cached_file(hub_id, "config.json", revision=revision))).parent.name


def load_model(name: str, dtype: str | torch.dtype, revision: str | None) -> Any:
    """Load a model with the code of this package, after making it known.

    Args:
        name: Folder or Hub id.
        dtype: A torch dtype, or "auto" for the saved one.
        revision: Commit, branch or tag on the Hub.

    Raises:
        OSError: If the weights are missing or damaged.
        ValueError: If the weights do not fit the config, or some are missing.
    """
    register()
    try:
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            name,
            dtype=dtype,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise OSError(
            f"The weights in {name} are damaged or cut off ({error}). Copy or download them again."
        ) from error
    except OSError as error:
        raise OSError(
            f"Cannot load weights from {name}: {_first_sentence(error)} The folder must hold "
            f"model.safetensors."
        ) from error
    except RuntimeError as error:  # what transformers raises where shapes differ
        raise ValueError(
            f"The weights in {name} must fit its config.json, but they do not: "
            f"{_first_sentence(error)} Restore the config they were saved with."
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"The weights in {name} must be complete, but {len(missing)} are missing, such as "
            f"{missing[0]}. Copy or download them again."
        )
    return model


def load_tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises:
        OSError: If it is missing or damaged.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"Cannot load the tokenizer of {name}: {_first_sentence(error)} The folder must hold "
            f"tokenizer.json and tokenizer_config.json."
        ) from error
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _first_sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".") + "."
