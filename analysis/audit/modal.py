"""What depends on train and eval mode beside noise and BN's statistics, in plain words."""

import pandas as pd

SHOWN = 3  # names in a sentence


def by_mode(table: pd.DataFrame) -> list[str]:
    """A line for each thing that depends on the mode, or does not though it should, with its place.

    Args:
        table: from `audit`.
    """
    found, lines = table.attrs, []
    if frozen := _keeping(table, "eval"):
        stay = _verb(frozen, "stays", "stay")
        lines.append(
            f"  Frozen: {_names(frozen)} {stay} in eval mode after model.train(): frozen, so train and eval agree "
            "there; do not adjust. By itself adjust leaves what is frozen."
        )
    if on := _keeping(table, "train"):
        lines.append(
            f"  Always by the batch: {_names(on)} {_verb(on, 'normalises', 'normalise')} by the batch in eval "
            "mode too, whatever is stored."
        )
    if found.get("differs"):
        lines.append(_branch(table))
    if per_sample := found.get("per_sample"):
        lines.append(
            f"  Each sample by itself: so {_names(per_sample)} {_verb(per_sample, 'normalises', 'normalise')} in "
            "train mode, but by stored averages in eval mode: the two differ, whatever is stored "
            "(track_running_stats=False makes them alike)."
        )
    if unreadable := found.get("unreadable"):
        names = [f"{name or 'the model'} ({kind})" for name, kind in unreadable.items()]
        lines.append(
            f"  Other norms: {_names(names)} {_verb(names, 'uses', 'use')} in eval mode what train mode "
            "stores, which cannot be read as a mean and a variance: not audited."
        )
    if functional := found.get("functional"):
        names = [f"{name or 'the model'} ({kind})" for name, kind in functional.items()]
        lines.append(
            f"  Norms within: {_names(names)} {_verb(names, 'calls', 'call')} torch's norm with buffers of "
            f"{_verb(names, 'its', 'their')} own, which are not audited: that counts as different by the mode."
        )
    if moving := found.get("moving"):
        buffers = list(dict.fromkeys(name for names in moving.values() for name in names))
        changes = _verb(list(moving), "changes", "change")
        lines.append(
            f"  Statistics that move in eval mode: {_names(list(moving))} {changes} {_names(buffers)} in every "
            "run, in eval mode too."
        )
    for name, is_left_on in found.get("always_on", {}).items():
        how = ", as it is on after eval() too" if is_left_on else ""
        lines.append(f"  Noise in eval mode: {name} is random in eval mode too{how}.")
    if undone := found.get("undone"):
        mode = next(iter(undone.values()))
        other = "eval" if mode == "train" else "train"
        lines.append(
            f"  Mixed modes: {_names(list(undone))} {_verb(list(undone), 'was', 'were')} in {mode} mode while the "
            f"model was in {other} mode; model.{other}() undoes that, and the audit is of what it makes."
        )
    return lines


def _branch(table: pd.DataFrame) -> str:
    found = table.attrs
    hit = [name for name, alarm in zip(table["layer_name"], table["alarm"], strict=True) if "branch" in alarm]
    where = f"; it begins in {_names(list(found['branches']))}" if found.get("branches") else ""
    if found.get("has_fast_path"):
        where += ", and torch's fast path for transformers, torch.backends.mha, is part of it"
    gets = f"{_names(hit)} {_verb(hit, 'gets', 'get')}" if hit else "the output is"
    rest = "" if hit or table.empty else "; no BN layer is moved beyond doubt"
    return (
        f"  By the mode: {gets} something else in train than in eval mode, the same each time, so not by noise: "
        f"look for self.training before it{where}{rest}."
    )


def mode_advice(table: pd.DataFrame) -> list[str]:
    """What to do about what depends on the mode.

    Args:
        table: from `audit`.
    """
    lines = []
    if any("branch" in alarm for alarm in table["alarm"]):
        lines.append(
            "  - Let both modes do the same where self.training (or the like) decides: statistics fit only one."
        )
    for name, is_left_on in table.attrs.get("always_on", {}).items():
        mend = "let eval() reach it" if is_left_on else "switch it by self.training"
        lines.append(f"  - {name} is random in eval mode too: if only training shall have it, {mend}.")
    return lines


def _keeping(table: pd.DataFrame, mode: str) -> list[str]:
    return list(table["layer_name"][table["keeps"] == mode])


def _names(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _verb(names: list[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many
