"""The paper's claims and questions of ours, each put to a study's tables: numbers, predictions, a verdict.

`python -m analysis.claims outputs/STUDY` prints the verdicts; the report opens with them. `statements` lists what
is tested, `verdict` says how it is decided and corrected, `evidence` which members are compared; `published` puts
the same predictions to the paper's own numbers. Test data chooses nothing that it judges: rates are fixed
beforehand, a learning rate is chosen on the validation split, a best strength on other seeds.
"""

from .ledger import RULE, Verdict, on_paper, verdict_table, verdicts
from .statements import CLAIMS, QUESTIONS, Claim
from .verdict import Word

__all__ = ["CLAIMS", "QUESTIONS", "RULE", "Claim", "Verdict", "Word", "on_paper", "verdict_table", "verdicts"]
