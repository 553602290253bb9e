"""Measuring: networks with frozen weights, in train mode and in eval mode.

moments        streamed means and variances of stacked activations
evaluate       passes over a data set: errors, losses, what each BN layer reads
measure        train mode: each BN layer's input with and without its own noise
layer_columns  the columns of layers.csv made of both
adjust         BN adjustment;  transplant  a noisy twin's shift given to a noise-free network
track          both modes' errors after each epoch;  flips  images that one mode gets right alone
"""
