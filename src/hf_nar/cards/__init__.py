"""Model cards, written from what was measured."""
