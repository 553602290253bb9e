"""Settings of every test."""

import torch

# Tests are small: a second thread would only wait for the first, and busily, at the cost of its neighbours.
torch.set_num_threads(1)
