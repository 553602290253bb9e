"""Audit and repair anybody's network: what Dropout and stale statistics do to its BatchNorm layers.

    from variance_shift.audit import adjust, assert_no_shift, audit, diagnosis, plot

    # In a checkout of the harness it is analysis.audit.
    table = audit(model, batches)     # a row per BN layer; the model is as before
    print(diagnosis(table))           # what is wrong, worst layer first, and what to do
    plot(table)                       # a Matplotlib figure
    adjust(model, batches)            # re-estimate what BN stored, without noise
    assert_no_shift(model, batches)   # in a test suite

Callbacks for Lightning and for Hugging Face's Trainer are in `callbacks`.
"""

from .batches import AuditError
from .expect import assert_no_shift
from .explain import diagnosis
from .page import plot
from .repair import MultiplicativeNoise, accuracy, adjust, compare, replace_noise
from .table import audit

__all__ = [
    "AuditError",
    "MultiplicativeNoise",
    "accuracy",
    "adjust",
    "assert_no_shift",
    "audit",
    "compare",
    "diagnosis",
    "plot",
    "replace_noise",
]
