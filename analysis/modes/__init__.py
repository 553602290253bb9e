"""The page of a mode study: statements about train() and eval(), what was measured of each, and the verdict."""
