"""Layers that work alike for one network and for a stack of networks.

A layer whose parameters have their usual shape is the torch layer it derives from. When
`experiments.training.stack` has given its parameters a leading members dimension, it maps [members, batch, ...]
to [members, batch, ...], each member with its own parameters. A network built of these layers and of elementwise
operations, with dimensions counted from the end, is therefore written once.

On a CPU stacked layers compute with `experiments.kernels`, in the memory layout of `layout`. Elsewhere they
are torch's own operations, and LLVM is not imported.
"""
