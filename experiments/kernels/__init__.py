"""Loops over images by hand: their language (`code`, `values`), its compiler (`machine`), what is written in it."""
