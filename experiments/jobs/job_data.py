"""A job's data set: loaded once a process, and checked before anything is trained."""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from torch import Tensor, nn

from experiments.checks import ConfigError, not_allowed
from experiments.data import Data, DataSettings, load_data
from experiments.memory import check_memory
from experiments.networks import NETWORKS, ModelSettings, build_network, training_bytes
from experiments.settings.config import Job
from experiments.settings.device import choose_device
from experiments.study.admission import check_same_data
from experiments.training.stack import site_shapes


@lru_cache(maxsize=1)
def cached_data(settings: DataSettings) -> Data:
    """Return a data set; jobs of one process that follow each other on the same data load it once."""
    return load_data(settings)


# By data set and network: how much an epoch of one member is, in multiplications of a forward pass.
_epoch_work: dict[tuple[DataSettings, ModelSettings], float] = {}
# What a step costs whatever the network, as multiplications of each sample: measured on MLPs.
STEP_WORK = 12_000


def epoch_work(job: Job) -> float:
    """Return how much an epoch of one of the job's members is beside other jobs' that `check_data` was told of."""
    return _epoch_work.get((job.data, job.model), 1.0)


def job_site_shapes(job: Job, data: Data) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample at each noise site of a job's network.

    Raises what torch raises when the network cannot be built, or does not take this data.
    """
    network = build_network(job.model, data.sample_shape, data.classes, seed=0)
    return site_shapes(network, data.train_inputs[:2].cpu())


def check_network(job: Job, data: Data) -> None:
    """Raise ConfigError unless the network of a job can be built for this data, and run on it."""
    try:
        check_memory(training_bytes(job.model, data.sample_shape, data.classes))
        job_site_shapes(job, data)
    except Exception as error:  # whatever torch has to say of a network too large, or of another shape
        if isinstance(error, ConfigError) and NETWORKS[job.model.name].is_foreign:
            raise  # it says what is wrong with the user's own
        raise ConfigError(
            f"model={job.model.name}: cannot be built for data={data.name}, samples of shape "
            f"{list(data.sample_shape)} ({error})"
        ) from error


def check_placements(job: Job, data: Data) -> None:
    """Raise ConfigError where noise of a member has no site in the job's network: it would be a baseline twice."""
    network = build_network(job.model, data.sample_shape, data.classes, seed=0)
    there = {site.placement for site in network.sites().values()}
    for member in job.members:
        if member.placement != "none" and member.placement not in there:
            raise not_allowed(
                f"members.{member.noise}.placement",
                member.placement,
                f"{', '.join(sorted(there))}, of which this network has sites; write others into it as NoiseSite",
            )


def sample_products(job: Job, data: Data) -> int:
    """Return the multiplications of one sample's way through a job's network. Raises as `job_site_shapes` does."""
    network = build_network(job.model, data.sample_shape, data.classes, seed=0)
    products = 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal products
        products += cast(Tensor, layer.weight)[0].numel() * output[0].numel()

    for layer in network.modules():
        if isinstance(weight := getattr(layer, "weight", None), Tensor) and weight.dim() > 1:
            layer.register_forward_hook(add)
    site_shapes(network, data.train_inputs[:2].cpu())
    return products


def check_data(jobs: Sequence[Job]) -> None:
    """Raise ConfigError unless every job's data is there, large enough, and of a kind that its network takes.

    Nor may it be other data than the study's results were made with. Fetches data that is missing, if its
    configuration says so: check everything else before.
    """
    fingerprints: dict[str, str] = {}
    built = set()
    for job in sorted(jobs, key=lambda job: str(job.data.section)):  # each data set is read once
        choose_device(job.device)
        data, recipe = cached_data(job.data), job.recipe
        if fingerprints.setdefault(data.name, data.fingerprint) != data.fingerprint:
            raise ConfigError(
                f"data={data.name}: this command has two sets of data of this name, which rows do not tell apart; "
                "choose a study=NAME for each"
            )
        if recipe.batch_size > (samples := len(data.train_inputs)):
            raise not_allowed(
                "recipe.batch_size", recipe.batch_size, f"at most {samples}, {data.name}'s training samples"
            )
        if recipe.augment != "none" and data.pixel_mean is None:
            raise not_allowed("recipe.augment", recipe.augment, f"none, because {data.name} holds no images")
        if (job.data, job.model) not in built:
            built.add((job.data, job.model))
            check_network(job, data)
            _epoch_work[job.data, job.model] = (STEP_WORK + sample_products(job, data)) * samples
        if NETWORKS[job.model.name].is_foreign:
            check_placements(job, data)
    check_same_data(jobs[0].folder, fingerprints)
