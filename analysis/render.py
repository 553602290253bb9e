"""Text from templates: the one Jinja environment of the report, the other pages and the findings."""

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render(template: Path, **data: object) -> str:
    """The text of a template with `data` filled in.

    What the template includes or extends is looked for in its own folder, then in analysis/templates. HTML is
    escaped, Markdown is not; a name that `data` lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(data)
