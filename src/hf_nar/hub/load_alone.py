"""Loads a model folder as a stranger does; `hf_nar.hub.clean_process` runs this text.

The process must find transformers and torch, and neither this package nor the network.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any


def main() -> None:
    """Load, translate a text, and print what was found as JSON in the last line.

    Arguments: the folder, a text, and the Auto class for the model. Code in the folder is run
    with `AutoModel` only.
    """
    folder, text, auto_class = sys.argv[1:]
    sys.modules["hf_nar"] = None  # type: ignore[assignment]  # importing it fails from here on
    for owner, name in ((socket.socket, "connect"), (socket, "getaddrinfo")):
        setattr(owner, name, _refuse)
    import torch
    import transformers

    loader: Any = getattr(transformers, auto_class)
    model, loading = loader.from_pretrained(
        folder,
        trust_remote_code=auto_class == "AutoModel",
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[fault]:
            raise ValueError(
                f"the weights have {fault}, such as {sorted(map(str, loading[fault]))[0]}"
            )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"the weights of {name} must be finite, but some are not")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ids = model.eval().generate(**tokenizer([text], return_tensors="pt"))
    translation = tokenizer.batch_decode(ids, skip_special_tokens=True)[0]
    knobs = model.generation_config.to_dict()
    found = json.dumps({"knobs": knobs, "translation": translation}, default=str)
    sys.stdout.write(f"\n{found}\n")


def _refuse(*arguments: object) -> Any:
    raise OSError(f"the network is off, and was asked for {arguments[1:]}")


if __name__ == "__main__":
    main()
