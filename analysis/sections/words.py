"""The words that every page of a study needs, in a line each."""

from .section import Section

WORDS = {
    "BN": "BatchNorm: divides by the variance of its input, in training by the batch's, at test by the one it "
    "stored in training.",
    "placement": "where noise acts: before_bn, straight before BN; before_weight, before the next weight layer; "
    "after_last_bn, behind all BN.",
    "shift ratio": "variance of BN's input at test / variance that BN stored. 1: no shift. 0.5: BN divides by a "
    "variance twice too large.",
    "local, cumulative": "the shift by a layer's own noise alone; the shift by all noise, that of earlier layers "
    "too.",
    "closure": "our theory of the cumulative shift, from weights and data. Of the local one speak Eq 8, Eq 12 and "
    "the exact law.",
}


def sections(*_: object) -> list[Section]:
    """One section, the same for every page."""
    return [Section("words", "Words", "words.html.j2", {"words": WORDS})]
