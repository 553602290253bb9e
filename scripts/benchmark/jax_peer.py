"""The default sweep once more in JAX: what one would write in place of the harness, and the only peer of stacking.

All members of a placement are one program: vmap over members, scan over steps, jit. It has the harness's
batches, recipe, networks and noise laws, and random numbers of its own; members of one seed start alike and share
batches and draws. It trains and does no more: no tables, and of what is measured the shift ratio alone.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax  # type: ignore[import-not-found]
import jax.numpy as jnp  # type: ignore[import-not-found]
import numpy as np

from experiments.data import Data
from experiments.members import Member
from experiments.settings.config import Job
from experiments.training.schedule import learning_rate_factor
from experiments.training.train import epoch_batches
from scripts.benchmark.timing import seconds_of

EPS, BN_MOMENTUM = 1e-5, 0.1
# JAX's faster generator, by measurement: with its default one a step takes longer.
RANDOM = "rbg"

Arrays = dict[str, jax.Array]


class Group(NamedTuple):
    """The members of one placement, as arrays [members]."""

    seed: jax.Array  # index among the seeds
    rate: jax.Array  # of dropout, 0 for the others
    beta: jax.Array  # of Uout
    std: jax.Array  # of Gaussian noise


class State(NamedTuple):
    """All that a step changes, of one member."""

    weights: Arrays
    momentum: Arrays
    mean: jax.Array  # [layers, width], running statistics
    var: jax.Array


def jax_seconds(job: Job, data: Data) -> tuple[float, float, list[tuple[Member, np.ndarray]]]:
    """Return the seconds of training all members, those of compiling, and each member's shift ratios [layers]."""
    seeds = sorted({member.seed for member in job.members})
    orders = _orders(job, data, seeds)
    x, y = jnp.asarray(data.train_inputs.numpy()), jnp.asarray(data.train_labels.numpy())
    training = compiling = 0.0
    ratios: list[tuple[Member, np.ndarray]] = []
    for placement in sorted({member.placement for member in job.members}):
        members = [member for member in job.members if member.placement == placement]
        strengths = (
            jnp.array([member.strength if member.noise == noise else 0.0 for member in members])
            for noise in ("dropout", "uout", "gaussian")
        )
        group = Group(jnp.array([seeds.index(member.seed) for member in members]), *strengths)
        start = jax.vmap(partial(_initial, job, data))(jnp.array([member.seed for member in members]))
        run = jax.jit(partial(_train, job, placement, len(seeds)))
        arguments = group, start, orders, x, y
        compiling += seconds_of(lambda run=run, arguments=arguments: run.lower(*arguments).compile())
        trained: list[State] = []
        jax.block_until_ready(run(*arguments))  # compiled where the call finds it
        training += seconds_of(
            lambda run=run, arguments=arguments, trained=trained: trained.append(
                jax.block_until_ready(run(*arguments))
            )
        )
        found = jax.jit(jax.vmap(_shift_ratios, (0, None)))(trained[0], x)
        ratios += zip(members, np.asarray(found), strict=True)
    return training, compiling, ratios


def _orders(job: Job, data: Data, seeds: Sequence[int]) -> jax.Array:
    """The sample numbers of every step's batches, [steps, seeds, batch]."""
    count, batch = len(data.train_inputs), job.recipe.batch_size
    device = data.train_inputs.device
    epochs = [
        [epoch_batches(seed, e, count, batch, device) for seed in seeds] for e in range(job.recipe.epochs)
    ]
    return jnp.asarray(np.concatenate([np.stack(of_seeds, 1) for of_seeds in epochs]))


def _initial(job: Job, data: Data, seed: jax.Array) -> State:
    """A member before its first step: weights as torch draws those of its Linear layers."""
    width, depth = job.model.width, job.model.depth
    sizes = [data.sample_shape[0], *[width] * depth, data.classes]
    weights: Arrays = {"gamma": jnp.ones((depth, width)), "beta": jnp.zeros((depth, width))}
    keys = jax.random.split(jax.random.key(seed, impl=RANDOM), depth + 2)
    for layer in range(depth + 1):
        bound = 1 / math.sqrt(sizes[layer])
        shape = sizes[layer], sizes[layer + 1]
        weights[f"weight{layer}"] = jax.random.uniform(keys[layer], shape, minval=-bound, maxval=bound)
    bound = 1 / math.sqrt(width)
    weights["bias"] = jax.random.uniform(keys[-1], (data.classes,), minval=-bound, maxval=bound)
    momentum = jax.tree.map(jnp.zeros_like, weights)
    return State(weights, momentum, jnp.zeros((depth, width)), jnp.ones((depth, width)))


def _train(
    job: Job,
    placement: str,
    seeds: int,
    group: Group,
    start: State,
    orders: jax.Array,
    x: jax.Array,
    y: jax.Array,
) -> State:
    """All steps of all members of a group."""
    recipe, depth, width = job.recipe, job.model.depth, job.model.width
    steps, _, batch = orders.shape
    rates = jnp.array([recipe.lr * learning_rate_factor(recipe, step, steps) for step in range(steps)])
    sites = 0 if placement == "none" else 1 if placement == "after_last_bn" else depth
    key = jax.random.key(0, impl=RANDOM)

    def loss(
        weights: Arrays, inputs: jax.Array, labels: jax.Array, factors: jax.Array
    ) -> tuple[jax.Array, Any]:
        hidden, moments = inputs, []
        for layer in range(depth):
            if placement == "before_weight" and layer > 0:
                hidden = hidden * factors[layer]
            hidden = hidden @ weights[f"weight{layer}"]
            if placement == "before_bn":
                hidden = hidden * factors[layer]
            mean, var = hidden.mean(0), hidden.var(0)
            moments.append((mean, var * (batch / (batch - 1))))
            hidden = (hidden - mean) * jax.lax.rsqrt(var + EPS) * weights["gamma"][layer] + weights["beta"][
                layer
            ]
            hidden = jax.nn.relu(hidden)
        if placement == "after_last_bn":
            hidden = hidden * factors[0]
        logits = hidden @ weights[f"weight{depth}"] + weights["bias"]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        return -picked.mean(), tuple(jnp.stack(of_layers) for of_layers in zip(*moments, strict=True))

    def step_of_member(state: State, member: Group, order, uniform, normal, lr) -> State:
        index, u, rate, beta = order[member.seed], uniform[member.seed], member.rate, member.beta
        added = beta * (2 * u - 1) + member.std * normal[member.seed]
        factors = jnp.where(rate > 0, jnp.where(u >= rate, 1 / (1 - rate), 0), 1 + added)
        grads, (mean, var) = jax.grad(loss, has_aux=True)(state.weights, x[index], y[index], factors)
        grads = jax.tree.map(lambda g, w: g + recipe.weight_decay * w, grads, state.weights)
        momentum = jax.tree.map(lambda m, g: recipe.momentum * m + g, state.momentum, grads)
        if recipe.nesterov:
            grads = jax.tree.map(lambda g, m: g + recipe.momentum * m, grads, momentum)
        else:
            grads = momentum
        weights = jax.tree.map(lambda w, g: w - lr * g, state.weights, grads)
        moved = [old + BN_MOMENTUM * (new - old) for old, new in ((state.mean, mean), (state.var, var))]
        return State(weights, momentum, *moved)

    def step(state: State, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[State, None]:
        number, order, lr = now
        u = jax.random.uniform(jax.random.fold_in(key, number), (seeds, sites, batch, width), minval=1e-7)
        in_axes = (0, 0, None, None, None, None)
        return jax.vmap(step_of_member, in_axes)(state, group, order, u, jax.scipy.special.ndtri(u), lr), None

    return jax.lax.scan(step, start, (jnp.arange(steps), orders, rates))[0]


def _shift_ratios(state: State, x: jax.Array) -> jax.Array:
    """Var_test / Var_moving of each layer, on the training set in eval mode."""
    weights, ratios, hidden = state.weights, [], x
    for layer in range(len(state.mean)):
        hidden = hidden @ weights[f"weight{layer}"]
        ratios.append(hidden.var(0, ddof=1).mean() / state.var[layer].mean())
        normed = (hidden - state.mean[layer]) * jax.lax.rsqrt(state.var[layer] + EPS)
        hidden = jax.nn.relu(normed * weights["gamma"][layer] + weights["beta"][layer])
    return jnp.stack(ratios)
