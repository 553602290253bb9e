"""What is tested: the paper's claims C1 to C13, and questions of ours, which the paper does not speak of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import cause, errors, shift, theory
from .evidence import Evidence
from .verdict import Part


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a question of ours.

    Attributes:
        name: C1 to C13, or Q1 to Q3.
        statement: what the paper says.
        published: the paper's own number for it.
        predictions: each a function from evidence to numbers with the ranges that they are predicted to lie in; it
            raises CannotTestError where a study lacks something.
        sweep: the sweep of conf/sweep that was meant for it, as that file says; its verdict counts.
        figures: charts that show it, the best first.
        not_in_paper: what of it cannot be put to the paper's published numbers, and why; empty where all can.
    """

    name: str
    statement: str
    published: str
    predictions: tuple[Callable[[Evidence], list[Part]], ...]
    sweep: str
    figures: tuple[str, ...]
    not_in_paper: str = ""


CLAIMS = [
    Claim(
        "C1",
        "At equal rate, dropout straight before BN shifts its variance more than dropout before the weight layer.",
        "mean magnitude at rate 0.5: 1.37 to 1.59 against 1.02 to 1.06",
        (shift.before_bn_shifts_more,),
        "variance_shift",
        ("shift_vs_rate",),
    ),
    Claim(
        "C2",
        "The shift grows with the drop rate and is about none at 0.1.",
        "Figure 4; mean magnitude at rate 0.1: 1.04 to 1.08 before_bn, 1.01 to 1.02 before_weight",
        (shift.grows_with_rate, shift.is_little_at_rate_01),
        "variance_shift",
        ("shift_vs_rate",),
    ),
    Claim(
        "C3",
        "Eq 8 holds in every layer.",
        "Eq 8",
        (partial(theory.formula_holds, placement="before_bn", formula="Eq 8"),),
        "variance_shift",
        ("predicted",),
        not_in_paper="the paper publishes neither local shifts nor the moments that Eq 8 takes",
    ),
    Claim(
        "C4",
        "Eq 12 predicts the shift of dropout before the weight layer.",
        "Eq 12",
        (partial(theory.formula_holds, placement="before_weight", formula="Eq 12"),),
        "variance_shift",
        ("predicted",),
        not_in_paper="the paper publishes neither local shifts nor the moments that Eq 12 takes",
    ),
    Claim(
        "C5",
        "cos² between a unit's weights and all ones does not fall like 1/d, so d cos² grows with its inputs d.",
        "Figure 3; linearly, the text says, but the exponents over its layers are 0.29 to 0.79",
        (theory.d_cos2_grows,),
        "width",
        ("width_law", "width"),
    ),
    Claim(
        "C6",
        "Wider networks shift less and bear a larger rate.",
        "WRN against PreResNet, Figure 4",
        (shift.wider_shifts_less, shift.wider_bears_more),
        "width",
        ("width",),
    ),
    Claim(
        "C7a",
        "With dropout before BN, switching to eval mode alone costs accuracy on the very same training data.",
        "eval mode 0.3 to 17.4 points worse at rate 0.5, Figure 5",
        (errors.eval_mode_is_worse,),
        "paper_table3",
        ("error_vs_rate",),
    ),
    Claim(
        "C7b",
        "The statistics that BN stored are what costs accuracy in eval mode on the training data.",
        "the paper's explanation of Figure 5",
        (errors.stored_statistics_cost,),
        "paper_table3",
        ("error_vs_rate",),
        not_in_paper="the paper publishes no training error after BN adjustment",
    ),
    Claim(
        "C8",
        "Adjusting BN's statistics lowers test error; without dropout it does about nothing.",
        "0.4 to 5.9 points won back before_bn, 0.1 to 1.1 before_weight, Table 3",
        (errors.adjustment_helps, errors.adjustment_without_noise_does_nothing),
        "paper_table3",
        ("error_vs_rate",),
        not_in_paper="the control: the paper adjusts no network without dropout",
    ),
    Claim(
        "C9",
        "A larger shift goes with a larger error.",
        "Figure 4, curves beside bars",
        (
            cause.placements_shift_and_err_alike,
            cause.seeds_shift_and_err_alike,
            cause.shift_harms,
        ),
        "variance_shift",
        ("shift_cost", "error_vs_rate"),
        not_in_paper="the association between seeds and the interventions: the paper has one network of a kind",
    ),
    Claim(
        "C10",
        "One dropout after the last BN shifts nothing and lowers test error.",
        "gains at the best rate of 0.00 to 0.72 points, Table 4, and of 0.21 to 0.23, Table 5",
        (shift.last_layer_shifts_nothing, errors.last_layer_gains),
        "paper_table4",
        ("error_vs_rate", "shift_vs_rate"),
        not_in_paper="that it shifts nothing: the paper measures no shift there",
    ),
    Claim(
        "C11",
        "Uout shifts less than dropout at equal label (beta = drop rate).",
        "Eq 15: ratio 3/(3 + beta²)",
        (shift.uout_of_equal_label_shifts_less,),
        "variance_shift",
        ("matched_noise", "collapse"),
        not_in_paper="the paper measures no shift under Uout",
    ),
    Claim(
        "C12",
        "Uout before the weight layer gains 0.2 to 0.3 points at its best beta, except on ResNeXt.",
        "gains at the best beta of 0.11 to 0.30 points, on ResNeXt of 0.02 and 0.04, Table 6",
        (errors.uout_gains,),
        "paper_table6",
        ("error_vs_rate",),
    ),
    Claim(
        "C13",
        "Uout suffers less from little data than last-layer dropout.",
        "stated in the text",
        (errors.uout_bears_little_data,),
        "little_data",
        ("error_vs_rate",),
        not_in_paper="the paper has no networks trained on less data",
    ),
]

QUESTIONS = [
    Claim(
        "Q1",
        "At equal noise variance Uout shifts as much as dropout.",
        "the paper compares them at equal label only, which is unequal noise",
        (shift.uout_of_equal_variance_shifts_alike,),
        "matched_noise",
        ("matched_noise", "collapse"),
        not_in_paper="the paper measures no shift under Uout",
    ),
    Claim(
        "Q2",
        "Normalisers without stored statistics are immune.",
        "follows from the paper's explanation; not said there",
        (errors.without_statistics_immune,),
        "normalisers",
        ("normalisers",),
        not_in_paper="the paper has networks with BN only",
    ),
    Claim(
        "Q3",
        "The cumulative shift of a BN layer is predictable from weights and data: within 2 % in the median.",
        "the paper's formulas speak of a layer's own noise alone",
        (theory.cumulative_shift_is_predicted,),
        "variance_shift",
        ("predicted", "shift_per_layer", "shift_vs_rate"),
        not_in_paper="the paper publishes no weights",
    ),
]
