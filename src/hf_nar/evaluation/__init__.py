"""Evaluation: quality, speed, and the files that published numbers come from."""
