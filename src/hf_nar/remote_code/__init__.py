"""All that travels to the Hub with a model, in one flat folder: networks, strategies, the loop."""
