"""BN adjustment: re-estimate the stored statistics without noise (the paper's Table 3)."""

import torch
from torch import Tensor

from experiments.layers.norms import stores_statistics
from experiments.measuring.evaluate import EVALUATION_BATCH, capture_inputs
from experiments.measuring.moments import Moments
from experiments.networks.network import Network


@torch.no_grad()
def adjust_stack(stack: Network, members: int, inputs: Tensor) -> None:
    """Replace the running mean and variance of every BN layer by those of `inputs` [N, *sample shape].

    The adjustment is joint: noise off, every BN normalising by its batch, so that each layer's statistics are
    taken behind layers that are adjusted already. Re-estimating all layers behind the old statistics and
    swapping them at once makes each one stale as soon as the layers before it change. Moments are pooled
    exactly over all samples, the variance unbiased, as BN's running variance is. A network whose normalisation
    stores no statistics stays as it is.
    """
    norms = {norm_input.norm: stack.get_submodule(norm_input.norm) for norm_input in stack.norm_inputs()}
    norms = {name: norm for name, norm in norms.items() if stores_statistics(norm)}
    if not norms:
        stack.eval()
        return
    stack.train()
    moments = {name: Moments() for name in norms}
    # Whole batches of like size: a remainder of one sample could not be normalised.
    batches = inputs.tensor_split(-(-len(inputs) // (2 * EVALUATION_BATCH)))
    with capture_inputs(stack, norms) as captured:
        for x in batches:
            stack(x.expand(members, *x.shape))
            for name, moment in moments.items():
                moment.update(captured[name])
    for name, moment in moments.items():
        norms[name].running_mean.copy_(moment.mean)  # type: ignore[union-attr, operator]
        norms[name].running_var.copy_(moment.variance)  # type: ignore[union-attr, operator]
    stack.eval()
