"""A section for each network of the study: its summary in numbers, and the figures drawn from it alone."""

import re

from ..figures import CHARTS
from ..summary import summary_table
from ..tables import Study
from .section import Section, Source, draw_panels


def sections(source: Source) -> list[Section]:
    """One section a network (data set, model, depth, normaliser, recipe), in the table's order."""
    networks = list(source.study.networks())
    return [_section(network, source, alone=len(networks) == 1) for network in networks]


def _section(network: Study, source: Source, alone: bool) -> Section:
    name = re.sub(r"[^a-z0-9.]+", "-", network.name.lower())
    return Section(
        name=name,
        title=network.name,
        template="network.html.j2",
        data={
            "widths": network.members["width"].nunique(),
            "summary": summary_table(network.members, network.layers).to_dict("records"),
            "by_width": summary_table(network.members, network.layers, by=["width"]).to_dict("records"),
        },
        panels=draw_panels(CHARTS, network.finished(), source.files, "" if alone else f"{name}-"),
    )
