"""Dropout by itself."""

import torch
import torch.nn.functional as F
from torch import nn

from analysis import theory
from experiments.modes.finding import Finding, judge
from experiments.modes.networks import as_784, digits, mlp, train


def zeroes_units_with_probability_p() -> Finding:
    """In train mode dropout sets each unit to 0 with probability p; in eval mode it is the identity."""
    units, passes = 100, 10_000
    x = torch.ones(passes, units)
    rates = [0.1, 0.3, 0.5, 0.9]
    zeroed, farthest, change = [], [], []
    for p in rates:
        dropout = nn.Dropout(p)
        of_unit = (dropout.train()(x) == 0).double().mean(0)  # [units]
        zeroed.append(of_unit.mean().item())
        # In standard errors: of 100 units the farthest one lies about 2.5 from p.
        farthest.append((of_unit - p).abs().max().item() / (p * (1 - p) / passes) ** 0.5)
        change.append((dropout.eval()(x) - x).abs().max().item())
    return judge(
        {
            "p": rates,
            "zeroed_share_train_mode": zeroed,
            "farthest_unit_from_p_standard_errors": farthest,
            "largest_change_eval_mode": change,
        },
        holds=max(farthest) < 6 and max(change) == 0,
        confirmed=f"At p = 0.3 a share of {zeroed[1]:.4f} is zeroed over {passes:,} passes, every unit alike "
        f"(the farthest of {units} is {farthest[1]:.1f} standard errors off); eval mode changes no bit.",
        refuted=f"At p = 0.3 a share of {zeroed[1]:.4f} is zeroed in train mode, and eval mode changes the "
        f"input by up to {max(change):.3g}.",
    )


def passes_half_of_the_data_on() -> Finding:
    """At p = 0.5, half of the layer's data is passed on."""
    x = F.relu(torch.randn(1000, 1000))  # what dropout usually gets
    dropout = nn.Dropout(0.5)
    y = dropout.train()(x)
    passed = (y != 0).double().sum().item() / (x != 0).double().sum().item()
    factor = (y.sum() / x[y != 0].sum()).item()  # by which the survivors are multiplied
    mean_ratio = (y.mean() / x.mean()).item()
    variance_ratio = (y.var() / x.var()).item()
    noise_variance = theory.noise_variance("dropout", 0.5)
    predicted = 1 / theory.ratio_before_bn(x.mean().item(), x.var().item(), noise_variance)
    return judge(
        {
            "passed_share": passed,
            "survivors_factor": factor,
            "mean_train_over_eval": mean_ratio,
            "variance_train_over_eval": variance_ratio,
            "variance_train_over_eval_eq_8": predicted,
        },
        holds=abs(passed - 0.5) < 0.01,
        misleads=abs(factor - 1) > 0.01,
        confirmed=f"A share of {passed:.3f} is passed on, unchanged.",
        needs_care=f"A share of {passed:.3f} is, but multiplied by {factor:.3g} = 1 / (1 - p): the mean is "
        f"kept (x{mean_ratio:.3f}), the variance is not (x{variance_ratio:.2f} behind a ReLU; Eq 8 says "
        f"x{predicted:.2f}).",
        refuted=f"A share of {passed:.3f} is passed on, not half.",
    )


def p_is_the_retention_probability() -> Finding:
    """Dropout's parameter p is the probability with which a unit is kept."""
    p = 0.2
    x = torch.ones(1_000_000)
    kept = {
        "nn.Dropout": (nn.Dropout(p).train()(x) != 0).double().mean().item(),
        "F.dropout": (F.dropout(x, p, training=True) != 0).double().mean().item(),
    }
    return judge(
        {"p": p, "kept_share_nn_dropout": kept["nn.Dropout"], "kept_share_f_dropout": kept["F.dropout"]},
        holds=all(abs(share - p) < 0.01 for share in kept.values()),
        confirmed=f"nn.Dropout({p}) keeps a share of {kept['nn.Dropout']:.3f}.",
        refuted=f"In torch p is the probability of dropping: nn.Dropout({p}) keeps a share of "
        f"{kept['nn.Dropout']:.3f}. Papers and older TensorFlow mean keeping: write 1 - p for their p.",
    )


def predictions_differ_without_eval() -> Finding:
    """Without eval(), repeated predictions of a network with dropout differ for the same input."""
    data = digits()
    network = mlp()
    train(network, as_784(data.train_inputs), data.train_labels, epochs=3)
    x = as_784(data.test_inputs)
    with torch.no_grad():
        network.train()
        in_train_mode = torch.stack([network(x).softmax(1) for _ in range(50)])  # [passes, samples, classes]
        network.eval()
        in_eval_mode = torch.stack([network(x).softmax(1) for _ in range(50)])
    chosen = in_train_mode.argmax(2)
    wavering = 100 * (chosen != chosen[0]).any(0).double().mean().item()
    spread = {
        "train": in_train_mode.std(0).max(1).values.mean().item(),
        "eval": (in_eval_mode - in_eval_mode[0]).abs().max().item(),
    }
    return judge(
        {
            "probability_std_train_mode": spread["train"],
            "probability_largest_difference_eval_mode": spread["eval"],
            "inputs_with_changing_class_percent": wavering,
        },
        holds=spread["train"] > 1e-4 and spread["eval"] == 0,
        confirmed=f"Over 50 passes a predicted probability varies by {spread['train']:.3f} (standard "
        f"deviation), and {wavering:.1f} % of the test inputs change their class; in eval mode all passes "
        "are equal to the bit.",
        refuted=f"Over 50 passes a predicted probability varies by {spread['train']:.3g} in train mode, and "
        f"by up to {spread['eval']:.3g} in eval mode.",
    )
