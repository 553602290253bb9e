"""Training and measuring: from a configuration to tables."""

import os

# OpenBLAS, NumPy's library for the products that training is made of, shall choose its kernels by the processor,
# as torch's libraries do: pinned to those without AVX-512, as some environments have it, it has half its speed.
# It reads this when NumPy is imported.
os.environ.pop("OPENBLAS_CORETYPE", None)
