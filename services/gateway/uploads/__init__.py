"""Pictures that requests start from, on their way in."""
