"""A model folder on its way to the Hub: what is checked, and what is sent."""
