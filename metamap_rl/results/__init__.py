"""The project's own results: its experiments, and the tables of its pages, rendered from the documents of results."""
