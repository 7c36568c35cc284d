"""What was found about models' predictions, as tables, sentences, a figure and a page.

All take what ``coverage_principle.predictions.evaluate_predictions`` returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coverage_principle.data import write_text
from coverage_principle.reporting import html
from coverage_principle.reporting.plots import BELOW, FURTHER_BELOW, chance_label, chance_line, look
from coverage_principle.reporting.style import new_figure, save_figure

#: Predictors and answerers as a person reads them.
NAMES = {
    "k_cutoff": "k-cutoff",
    "neighbours": "training items one slot away",
    "support": "support",
    "matcher_probability": "matcher's own probability",
    "learner_score": "learner's score",
    "another_seed": "another file",
    "others": "mean of the others",
    "matcher": "matcher",
    "learner": "learner",
}
_GROUPS = {"type_0": "type_0 items", "unseen": "all unseen items"}
_COUNTS = ("records", "unknown", "double", "contradicting", "missing", "unparsable")
_COLUMNS = 3

#: A title, a header and rows of text.
Table = tuple[str, list[str], list[list[str]]]


def prediction_tables(found: Mapping) -> list[Table]:
    """Everything that was found, as text."""
    files = [[one["file"], *(f"{one[name]:,}" for name in _COUNTS)] for one in found["files"]]
    by = found["accuracy"]
    bins = {f"{one['from']:.3g} to {one['to']:.3g}": one for one in by["by_support"]}
    types = {found["types"][kind]: one for kind, one in by["by_type"].items()}
    tables = [("Files", ["file", *_COUNTS], files), _accuracies("type", "type", types)]
    if by["by_k_cutoff"]:
        tables.append(_accuracies("k-cutoff, type_0", "k-cutoff", by["by_k_cutoff"]))
    if bins:
        tables.append(_accuracies("support, type_0", "support", bins))
    groups = _groups(found)
    header = [_GROUPS[name] for name in groups]

    def rows(part: Callable[[Mapping], Mapping], name: Callable[[str], str]) -> list[list[str]]:
        keys = dict.fromkeys(key for group in groups.values() for key in part(group))
        return [[name(key), *(shown(part(g).get(key)) for g in groups.values())] for key in keys]

    aucs = rows(lambda group: group["auc"], NAMES.get)
    differences = rows(lambda group: group["differences"], _difference)
    if aucs:
        title = "Which items are answered: AUC (0.5: no better than chance)"
        tables.append((title, ["predictor", *header], aucs))
    if differences:
        tables.append(("Differences of these AUCs", ["", *header], differences))
    for name, group in groups.items():
        own = _answerers(group)
        if own:
            shares = ("same", "same_wrong")
            lines = [
                [NAMES[key], *(shown(one[share]) for share in shares), _span(one["both_wrong"])]
                for key, one in own.items()
            ]
            title = f"Whose answers the models give: {_GROUPS[name]}"
            tables.append((title, ["", "same answer", "same wrong answer", "both wrong"], lines))
    return tables


def prediction_notes(found: Mapping) -> list[str]:
    """What a reader has to know beside the tables, a sentence each."""
    own = "of shares Wilson's, of AUCs DeLong's, over the items"
    if len(found["files"]) > 1:
        own = "of accuracies Student's over the files, of AUCs DeLong's over the items"
        own += ", of agreement alike"
    notes = [f"Intervals are of 95 %: {own}."]
    answers = found["answers"]
    notes.append(f"Chance is an accuracy of {1 / answers:.3f}: one of {answers:,} answers.")
    if any(one["missing"] or one["unparsable"] or one["contradicting"] for one in found["files"]):
        notes.append("What is no answer counts as wrong, except under 'of those answered'.")
    if any("learner_score" in group["auc"] for group in _groups(found).values()):
        notes.append("Support and the learner's score are those of the true answer.")
    for name, group in _groups(found).items():
        if group["left_out"]:
            of = f"the {group['items']:,} of which every file has a prediction"
            lack = f"{group['left_out']:,} lack one"
            notes.append(f"AUC and agreement of {_GROUPS[name]} are of {of}; {lack}.")
        chance = group["agreement"]["chance"]
        if name == "type_0" and chance is not None and _answerers(group):
            notes.append(
                "Same wrong answers are counted where both give one; of wrong answers at random, "
                f"{chance:.3f} would be the same."
            )
    return notes


def _groups(found: Mapping) -> dict[str, Mapping]:
    """The groups of items; one group alone where all unseen items are of ``type_0``."""
    groups = dict(found["groups"])
    if groups.get("unseen") == groups.get("type_0"):
        groups.pop("unseen", None)
    return groups


def _accuracies(by: str, first: str, groups: Mapping[str, Mapping]) -> Table:
    """The second share is there if it is another one anywhere."""
    both = any(one["of_answered"] != one["accuracy"] for one in groups.values())
    header = [first, "items", "accuracy", *(["of those answered", "answered"] if both else [])]
    rows = []
    for name, one in groups.items():
        row = [name, f"{one['items']:,}", shown(one["accuracy"])]
        if both:
            row += [shown(one["of_answered"]), _span(one["answered"])]
        rows.append(row)
    return f"Accuracy by {by}", header, rows


def _answerers(group: Mapping) -> dict[str, Mapping]:
    return {name: one for name, one in group["agreement"].items() if name != "chance"}


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _difference(name: str) -> str:
    return " \N{MINUS SIGN} ".join(NAMES[part] for part in name.split(" - "))


def shown(share: Mapping | None) -> str:
    """A mean with its interval, as text; ``-`` for none."""
    if share is None:
        return "-"
    return f"{share['mean']:.3f} ({share['low']:.3f} to {share['high']:.3f})"


# -------------------------------------------------------------------------------- figure and page


def draw_predictions(found: Mapping, stem: Path) -> list[Path]:
    """Accuracy by type, k-cutoff and support, AUCs, and agreement on errors; PNG and PDF."""
    by, groups = found["accuracy"], _groups(found)
    chance, several = 1 / found["answers"], len(found["files"]) > 1
    panels: list[Callable[[object], None]] = []
    bins = {f"{one['from']:.2g}\nto {one['to']:.2g}": one for one in by["by_support"]}
    for title, parts in (
        ("type", {_broken(found["types"][kind]): one for kind, one in by["by_type"].items()}),
        ("k-cutoff", by["by_k_cutoff"]),
        ("support", bins),
    ):
        if parts:
            panels.append(lambda axis, t=title, p=parts: _accuracy_panel(axis, t, p, chance))
    if any(group["auc"] for group in groups.values()):
        panels.append(lambda axis: _auc_panel(axis, groups))
    if any(_answerers(group) for group in groups.values()):
        panels.append(lambda axis: _agreement_panel(axis, groups))
    rows = math.ceil(len(panels) / _COLUMNS)
    columns = math.ceil(len(panels) / rows)
    figure, axes = new_figure(4.2 * columns, 3.3 * rows, rows, columns, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    label = f"accuracy, mean of {len(found['files'])} files" if several else "accuracy"
    axes[0][0].set_ylabel(label)
    return save_figure(figure, stem)


def _broken(name: str) -> str:
    """A type and its words on two lines, for a tick."""
    return name.replace(" (", "\n(")


def points(axis, places: Sequence[float], shares: Sequence[Mapping], *, x=True, **style) -> None:
    """Means with their intervals; the places are on the x-axis or the y."""
    means = [one["mean"] for one in shares]
    below = [one["mean"] - one["low"] for one in shares]
    above = [one["high"] - one["mean"] for one in shares]
    style = {"linestyle": "", "markersize": 5, "capsize": 2, **style}
    if x:
        axis.errorbar(places, means, yerr=[below, above], **style)
    else:
        axis.errorbar(means, places, xerr=[below, above], **style)


def _accuracy_panel(axis, title: str, groups: Mapping[str, Mapping], chance: float) -> None:
    places = range(len(groups))
    points(axis, places, [one["accuracy"] for one in groups.values()], **look(0))
    chance_line(axis, chance)
    turned = {"rotation": 30, "ha": "right"} if title == "type" else {}
    break_ = " " if title == "type" else "\n"
    names = [f"{name}{break_}({one['items']:,})" for name, one in groups.items()]
    axis.set_xticks(places, names, fontsize=8, **turned)
    about = "" if title == "type" else ", type_0 items"
    axis.set(ylim=(-0.02, 1.05), title=f"by {title}{about}", xlabel="(number of items)")
    if chance:
        axis.set_xlabel(f"(number of items; dotted: {chance_label(chance)})")


def _auc_panel(axis, groups: Mapping[str, Mapping]) -> None:
    names = list(dict.fromkeys(name for group in groups.values() for name in group["auc"]))
    for number, (which, group) in enumerate(groups.items()):
        aside = 0.16 * (number - (len(groups) - 1) / 2)
        places = [names.index(name) + aside for name in group["auc"]]
        own = {"label": _GROUPS[which], **look(number)}
        if places:
            points(axis, places, list(group["auc"].values()), x=False, **own)
    axis.axvline(0.5, color="grey", linewidth=1, linestyle=":")
    words = {**NAMES, "neighbours": "items one\nslot away"}
    axis.set_yticks(range(len(names)), [words[name] for name in names], fontsize=8)
    axis.set(title="which items are answered", xlabel="AUC (0.5: a guess)")
    axis.invert_yaxis()
    axis.legend(**FURTHER_BELOW, ncols=2)


def _agreement_panel(axis, groups: Mapping[str, Mapping]) -> None:
    group = groups.get("type_0") or next(iter(groups.values()))
    own = _answerers(group)
    for number, key in enumerate(("same", "same_wrong")):
        aside = 0.2 * (number - 0.5)
        found = {place + aside: one[key] for place, one in enumerate(own.values()) if one[key]}
        label = {"same": "same answer", "same_wrong": "same wrong answer"}[key]
        if found:
            points(axis, list(found), list(found.values()), label=label, **look(number + 2))
    if group["agreement"]["chance"] is not None:
        chance = {"color": "grey", "linewidth": 1, "linestyle": ":"}
        axis.axhline(group["agreement"]["chance"], label="at random, if wrong", **chance)
    axis.set_xticks(range(len(own)), [NAMES[name] for name in own], fontsize=8)
    title = f"agreement, {_GROUPS['type_0'] if 'type_0' in groups else _GROUPS['unseen']}"
    axis.set(ylim=(-0.02, 1.05), xlim=(-0.6, len(own) - 0.4), title=title)
    axis.legend(**BELOW, ncols=3)


def write_prediction_page(found: Mapping, png: Path, page: Path, notes: Sequence[str]) -> None:
    """Write a self-contained page with the figure at ``png`` and every table."""
    count = len(found["files"])
    what = f"{count} files of predictions" if count > 1 else "One file of predictions"
    blocks = [html.bullets(notes), html.figure(png, ["Dotted lines are chance."])]
    for title, header, rows in prediction_tables(found):
        blocks += [html.heading(title), html.table(header, rows)]
    title, lead = f"Predictions of {found['data_set']}", f"{what} for its test items."
    write_text(page, html.page(title, lead, blocks))
