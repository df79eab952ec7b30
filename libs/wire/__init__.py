"""Domain types ⇄ shared proto messages, both directions side by side."""
