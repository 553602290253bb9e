"""What train() and eval() really do: one small experiment for each statement that tutorials make about them.

A statement is its experiment's docstring. The experiment measures, and its verdict follows from what it measured.
`python -m experiments.modes` runs them all.
"""

from experiments.modes import autograd, batches, batchnorm, both, dropout, stored_statistics
from experiments.modes.statement import Statement

TOPICS = {
    "Dropout": [
        dropout.zeroes_units_with_probability_p,
        dropout.passes_half_of_the_data_on,
        dropout.p_is_the_retention_probability,
        dropout.predictions_differ_without_eval,
    ],
    "BatchNorm": [
        batchnorm.uses_batch_statistics_in_train_mode_only,
        batchnorm.eval_switches_bn_off,
        stored_statistics.stored_statistics_are_those_of_all_training_data,
        batchnorm.statistics_change_in_forward,
        stored_statistics.test_data_changes_the_weights,
        batchnorm.momentum_weights_the_new_batch,
        batchnorm.without_tracking_eval_depends_on_the_batch,
        batchnorm.without_affine_no_gamma_and_beta,
        batchnorm.eps_protects_a_constant_channel,
        batches.small_test_batches_distort_in_train_mode,
        stored_statistics.frozen_model_drifts_in_train_mode,
        batches.one_sample_fails_in_train_mode,
    ],
    "Modes and autograd": [
        autograd.eval_stops_gradients,
        autograd.no_grad_saves_memory_and_time,
        autograd.with_model_eval,
        autograd.layers_without_mode_are_alike,
        autograd.children_follow_their_parent,
    ],
    "Dropout and BatchNorm together": [
        both.shift_arises_when_the_mode_changes,
        both.shift_accumulates_with_depth,
        both.uout_from_0_to_1_moves_the_mean,
        both.smaller_noise_and_wider_layers_help,
        both.shift_in_one_of_four_corners,
    ],
}

STATEMENTS = [
    Statement(number, topic, experiment)
    for number, (topic, experiment) in enumerate(
        ((topic, experiment) for topic, experiments in TOPICS.items() for experiment in experiments), start=1
    )
]
