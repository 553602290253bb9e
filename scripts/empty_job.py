"""A Hydra job that does nothing: what launching one costs."""

import hydra
from omegaconf import DictConfig

from experiments.settings.options import CONF


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def launch(config: DictConfig) -> None:
    """Do nothing with a composed configuration."""


if __name__ == "__main__":
    launch()
