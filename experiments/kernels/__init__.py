"""Loops by hand: their language (`code`, `values`, `storage`), its compiler (`machine`), and the kernels."""
