"""Parallel corpora, tokenizers and token batches."""
