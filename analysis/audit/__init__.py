"""Audit and repair anybody's network: what Dropout and stale statistics do to its BatchNorm layers.

from . import adjust, audit, diagnosis, replace_noise

table = audit(model, batches)     # a row per BN layer; the model is as before
print(diagnosis(table))           # what is wrong, worst layer first, and what to do
adjust(model, batches)            # re-estimate what BN stored, without noise
"""

from .batches import AuditError
from .explain import diagnosis
from .repair import MultiplicativeNoise, accuracy, adjust, compare, replace_noise
from .table import audit

__all__ = [
    "AuditError",
    "MultiplicativeNoise",
    "accuracy",
    "adjust",
    "audit",
    "compare",
    "diagnosis",
    "replace_noise",
]
