"""What more than one process needs; each package says one thing (the order of layers is in pyproject.toml)."""
