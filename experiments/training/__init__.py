"""Training: many members side by side, each with its own noise.

stack      one network that holds the parameters of all members
noise      the noise of a chunk of members at a site, made of paired uniform draws
gradients  losses and gradients of a step; of MLPs by a tape of the first
train      the training loop, its optimizer and its batches
schedule   the learning rate;  augment  crops and mirrors;  precision  of products
"""
