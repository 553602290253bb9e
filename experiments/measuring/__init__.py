"""Measuring: networks with frozen weights, in train mode and in eval mode.

moments        streamed means and variances of stacked activations
evaluate       passes over a data set: errors, losses, what each BN layer reads
measure        train mode: each BN layer's input with and without its own noise
layer_columns  the columns of layers.csv made of both
adjust         BN adjustment
shown          what a BN layer shows in eval mode, and statistics with which it shows what is prescribed
interventions  errors with means, variances or both made right; a coarse shift, on a network's own weights
population     what a BN layer would show behind statistics of the whole training set as one batch
predicted      what theory says that it would show;  noisy_activation  how, in networks of images
transplant     that coarse shift of a noisy network, shown by its noise-free twin
track          both modes' errors after each epoch;  flips  images that one mode gets right alone
"""
