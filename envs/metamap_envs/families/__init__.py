"""One module per family; importing it registers the family."""
