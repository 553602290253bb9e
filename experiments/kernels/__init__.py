"""Loops over images by hand: their language (`code`, `values`), its compiler (`machine`), and the kernels."""
