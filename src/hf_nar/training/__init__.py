"""Training: recipes, the trainer, checkpoints and export."""
