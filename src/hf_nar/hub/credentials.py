"""Secrets in text: tokens and keys that must not be published."""

from __future__ import annotations

import re

# What begins tokens and keys that people have beside models, each as its service documents it.
PATTERNS = {
    "a token of the Hub": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})\b",
    "a key of Amazon Web Services": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a key of OpenAI or Anthropic": r"\bsk-[A-Za-z0-9_-]{32,}",
    "a key of Weights & Biases": r"\b(?:WANDB_API_KEY|wandb_api_key)\W{1,4}[a-f0-9]{40}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
SHORTEST_TOKEN = 8  # characters; what is shorter may stand in a text by chance


def find_credential(text: str, token: str | None) -> str:
    """Return what kind of secret a text seems to hold; "" if none. The secret is not shown.

    Args:
        text: The text.
        token: The user's own token, if there is one: whatever it looks like, it is found.
    """
    if token and len(token) >= SHORTEST_TOKEN and token in text:
        return "your own token of the Hub"
    return next((kind for kind, pattern in PATTERNS.items() if re.search(pattern, text)), "")
