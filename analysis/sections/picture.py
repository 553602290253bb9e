"""The page's first picture: theory, what was measured here, and what the paper published, in one."""

from ..figures import core
from ..figures.drawing import Drawing
from ..select import CannotAnswerError
from ..tables import Study
from .section import Section, Source, draw_panel

QUESTION = "How large is the shift: by theory, measured here, and in the paper?"


def sections(source: Source) -> list[Section]:
    """One section with the core picture; where no network of the study can draw it, with the sentence why."""
    panel = draw_panel(lambda: first_picture(source.study.finished()), "core", QUESTION, source.files)
    return [Section("picture", QUESTION, "picture.html.j2", {"missing": panel.missing}, [panel])]


def first_picture(study: Study) -> Drawing:
    """The core picture of the first network of the study that has one.

    Raises CannotAnswerError, with the first network's reason, where none has.
    """
    reasons = [CannotAnswerError("No network of this study has finished.")]
    for network in study.networks():
        try:
            return core.draw(network)
        except CannotAnswerError as reason:
            reasons.append(reason)
    raise reasons[:2][-1]
