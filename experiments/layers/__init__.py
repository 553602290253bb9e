"""Layers that work alike for one network and for a stack of networks."""
