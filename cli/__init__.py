"""The `facetwin` command: one thin file a verb."""
