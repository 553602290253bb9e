"""`--cfg job`: what each job of a command line is made of."""

from hydra import compose
from omegaconf import OmegaConf

from experiments.settings.plan import Plan
from experiments.settings.search_path import conf_in_use


def configurations(plan: Plan) -> str:
    """Return each job's configuration as YAML; of several each is a document, headed by what sets it apart."""
    jobs = list(plan.overrides.values())
    in_all = set(jobs[0]).intersection(*jobs)
    documents = []
    with conf_in_use(plan.launcher):
        for number, overrides in enumerate(jobs, start=1):
            own = " ".join(override for override in overrides if override not in in_all)
            heading = f"---\n# job {number} of {len(jobs)}: {own}\n" if len(jobs) > 1 else ""
            documents.append(heading + OmegaConf.to_yaml(compose("config", overrides)))
    return "".join(documents)
