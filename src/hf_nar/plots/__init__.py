"""Pictures, drawn from results files."""
