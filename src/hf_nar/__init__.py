"""Non-autoregressive sequence-to-sequence models for Hugging Face transformers.

Importing this package loads neither torch nor transformers; the names below load on first use. To
call `AutoModel.from_pretrained` without `trust_remote_code`, call `hf_nar.register()` first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_nar.auto import register
    from hf_nar.captioner import Captioner, CaptionTrace
    from hf_nar.inference import TranslationTrace, Translator
    from hf_nar.packing import pack_weights
    from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
    from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
    from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration

__version__ = "0.1.0"

__all__ = [
    "CaptionTrace",
    "Captioner",
    "LaNMTConfig",
    "LaNMTForConditionalGeneration",
    "RefinementNARConfig",
    "RefinementNARForConditionalGeneration",
    "TranslationTrace",
    "Translator",
    "__version__",
    "pack_weights",
    "register",
]

_HOMES = {
    "CaptionTrace": "hf_nar.captioner",
    "Captioner": "hf_nar.captioner",
    "LaNMTConfig": "hf_nar.remote_code.configuration_lanmt",
    "LaNMTForConditionalGeneration": "hf_nar.remote_code.modeling_lanmt",
    "RefinementNARConfig": "hf_nar.remote_code.configuration_refinement_nar",
    "RefinementNARForConditionalGeneration": "hf_nar.remote_code.modeling_refinement_nar",
    "TranslationTrace": "hf_nar.inference",
    "Translator": "hf_nar.inference",
    "pack_weights": "hf_nar.packing",
    "register": "hf_nar.auto",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_nar' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
