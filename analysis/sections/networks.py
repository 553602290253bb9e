"""A section for each network of the study: the figures drawn from it alone."""

import re

from ..figures import CHARTS
from ..tables import Study
from .section import Section, Source, draw_panels


def sections(source: Source) -> list[Section]:
    """One section a network (data set, model, depth, normaliser, recipe), in the table's order."""
    networks = list(source.study.networks())
    return [_section(network, source, alone=len(networks) == 1) for network in networks]


def anchor(network: Study) -> str:
    """A network's name as an anchor of the page."""
    return re.sub(r"[^a-z0-9.]+", "-", network.name.lower())


def _section(network: Study, source: Source, alone: bool) -> Section:
    name = anchor(network)
    panels = draw_panels(CHARTS, network.finished(), source.files, "" if alone else f"{name}-")
    return Section(name, network.name, "figures.html.j2", panels=panels)
