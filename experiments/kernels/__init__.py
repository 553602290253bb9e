"""Loops by hand over vectors of numbers, on a CPU.

`language` is what kernels are written in, `machine` compiles and runs them, `tiles` are what they sum in
registers. The other modules hold the kernels, each above the function that calls it: `matrices` (products of
all members), `correlation` (a convolution and the gradient of its input), `weight_gradient` (that of its
weight), `normalisation` (batch normalisation with its ReLU, and moments), `factors` (of multiplicative
noise). `tape` records the kernels of a step, to run them again in one call.
"""
