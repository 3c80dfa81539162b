"""What libraries print by themselves."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Keep the libraries' own notes and progress bars off the terminal."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
