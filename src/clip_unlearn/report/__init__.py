"""Pages made from a Record alone. Never reaches torch."""
