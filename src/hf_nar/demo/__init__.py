"""A page in the browser that translates and shows the drafts, here or as a Space on the Hub."""
