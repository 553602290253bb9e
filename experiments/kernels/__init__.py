"""Loops over images by hand: a language for them (`code`), its compiler (`machine`), and what is written in it."""
