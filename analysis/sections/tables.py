"""The page's tables: each network's means, and the paper's published values beside this study's."""

from ..beside.comparison import beside_tables
from ..summary import summary_table
from ..tables import Study
from .networks import anchor
from .section import Section, Source


def sections(source: Source) -> list[Section]:
    """One section with all tables."""
    data = {
        "networks": [_means(network) for network in source.study.networks()],
        "beside": beside_tables(source.paper),
    }
    return [Section("tables", "Tables", "tables.html.j2", data)]


def _means(network: Study) -> dict:
    """A network's means over everything but the kind of noise, and the same for each of its widths."""
    return {
        "name": f"means-{anchor(network)}",
        "title": network.name,
        "widths": network.members["width"].nunique(),
        "summary": summary_table(network.members, network.layers).to_dict("records"),
        "by_width": summary_table(network.members, network.layers, by=["width"]).to_dict("records"),
    }
