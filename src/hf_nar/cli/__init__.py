"""The command `hf-nar`. Modules here import torch and transformers only inside functions."""
