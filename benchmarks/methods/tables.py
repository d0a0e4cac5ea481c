"""The tables of docs/methods.md, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from actors.corruption.methods import CHANCE, METHODS
from actors.diffusion.unet_cost import fast_evaluations
from benchmarks.methods.draws import DRAWS, Outcome, Setting
from benchmarks.methods.marks import BINS, BROKEN, FAR, NEAR, Marks, Name
from benchmarks.methods.results import Bill, Results, at, corrupting

Groups = Mapping[tuple[str, ...], Sequence[Outcome]]
NOTHING = "-"


@dataclass(frozen=True)
class Broken:
    """What the annotator marked in some images.

    Attributes:
        images: how many it processed.
        broken: in how many the region is visibly broken.
        gone: in how many an object is nowhere.
        inside: marked pixels in the region and near it, the median; or None without images.
        outside: mean share of an image's marked pixels that lie far from the region, over those with any; or None.
    """

    images: int
    broken: int
    gone: int
    inside: float | None
    outside: float | None

    @classmethod
    def of(cls, marks: Iterable[Marks]) -> Broken:
        every = list(marks)
        shares = [one.outside / one.marked for one in every if one.marked]
        return cls(
            len(every),
            sum(one.broken for one in every),
            sum(one.missing > 0 for one in every),
            float(np.median([one.inside for one in every])) if every else None,
            float(np.mean(shares)) if shares else None,
        )


def report(results: Results, groups: Groups, marks: Mapping[Name, Marks]) -> str:
    """All tables.

    Args:
        results: of a run.
        groups: see `benchmarks.methods.marks.chosen`.
        marks: of all draws in the groups.
    """
    parts = {
        "One k": fixed(results),
        "What it costs": costs(results),
        f"The ladder {' -> '.join(map(str, results.steps))}": ladders(results),
        "The image latent itself": direct(results),
        "Is it visibly broken?": by_method(results, groups, marks, _share_broken),
        "Marked pixels in the region, median": by_method(results, groups, marks, _inside),
        "An object is gone": by_method(results, groups, marks, _share_gone),
        "Marks outside": by_method(results, groups, marks, lambda found: _or_nothing(found.outside)),
        "The ladder of noise, by the k that was accepted": by_depth(results, marks),
        f"Noise at k = {results.steps[-1]}, by how much of the region changed": by_change(groups, marks),
    }
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts.items())


def fixed(results: Results) -> str:
    """Acceptance and change of every method at every k."""
    head = [
        "method", "k", "accepted, first draw", f"within {DRAWS} draws", "unchanged", "spilled",
        "changed inside", "outside", "difference inside", "outside",
    ]  # fmt: skip
    rows = [[m, str(k), *_acceptance(results, at(m, k))] for m in METHODS for k in results.steps]
    return markdown(head, rows)


def direct(results: Results) -> str:
    """The same for the image latent."""
    head = [
        "method", "level of k", "accepted, first draw", f"within {DRAWS} draws", "unchanged", "spilled",
        "changed inside", "outside", "difference inside", "outside",
    ]  # fmt: skip
    rows = [
        [
            setting.method,
            str(setting.level) if setting.method == "noise" else NOTHING,
            *_acceptance(results, setting),
        ]
        for setting in results.direct
        if setting.method != "none"
    ]
    return markdown(head, rows)


def costs(results: Results) -> str:
    """UNet evaluations per accepted sample, as the factory spends them with this setting alone."""
    head = [
        "method", "k", "inversion", "first draw", f"within {DRAWS} draws",
        "autoencoder: accepted, first draw", "autoencoder: first draw",
    ]  # fmt: skip
    rows = []
    for method in METHODS:
        for k in results.steps:
            setting = at(method, k)
            retried = results.bill(setting, draws=DRAWS) if method in CHANCE else None
            alone = results.bill(setting, alone=True)
            rows.append(
                [
                    method,
                    str(k),
                    str(sum(fast_evaluations(k))),
                    each(results.bill(setting)),
                    each(retried) if retried else NOTHING,
                    proportion(alone),
                    each(alone),
                ]
            )
    return markdown(head, rows)


def ladders(results: Results) -> str:
    """The adaptive ladder of every method, judged against the round trip and against the autoencoder alone."""
    head = [
        "method", "accepted", *(f"at k = {k}" for k in results.steps), "median k", "UNet rows per accepted",
        "autoencoder: accepted", "autoencoder: rows",
    ]  # fmt: skip
    rows = []
    for method in corrupting():
        bill, alone = results.ladder_bill(method), results.ladder_bill(method, alone=True)
        reached = [climb.last.setting.steps for climb in results.climbs(method) if climb.accepted]
        counts = Counter(reached)
        rows.append(
            [
                method,
                proportion(bill),
                *(percent(counts[k] / bill.scenes) for k in results.steps),
                f"{np.median(reached):g}" if reached else NOTHING,
                each(bill),
                proportion(alone),
                each(alone),
            ]
        )
    return markdown(head, rows)


def by_method(
    results: Results, groups: Groups, marks: Mapping[Name, Marks], cell: Callable[[Broken], str]
) -> str:
    """A row for every method, a column for every k, the ladder and the image latent; controls below."""

    def broken(*name: str) -> str:
        return cell(Broken.of(marks[one.name] for one in groups[name]))

    head = ["method", *(f"k = {k}" for k in results.steps), "ladder", "image latent"]
    rows = []
    for method in corrupting():
        levels = [str(setting.level) for setting in results.direct if setting.method == method]
        latent = [broken("direct", method, level) for level in levels]
        if len(levels) > 1:
            latent = [f"{what} (level {level})" for what, level in zip(latent, levels, strict=True)]
        depths = [broken("fixed", method, str(k)) for k in results.steps]
        rows.append([method, *depths, broken("ladder", method), ", ".join(latent)])
    controls = [NOTHING] * (len(results.steps) - 1) + [broken("control", "round trip"), NOTHING]
    rows.append(["none (control)", *controls, broken("control", "autoencoder")])
    return markdown(head, rows)


def by_depth(results: Results, marks: Mapping[Name, Marks]) -> str:
    """Of the annotated images that the ladder of `noise` accepted, the share that is broken, for every k."""
    accepted = [climb.last for climb in results.climbs("noise") if climb.accepted]
    rows = []
    for k in results.steps:
        names = [one.name for one in accepted if one.setting.steps == k]
        found = Broken.of(marks[name] for name in names if name in marks)
        rows.append([str(k), *_judged(found)])
    return markdown(["k", *_JUDGED], rows)


def by_change(groups: Groups, marks: Mapping[Name, Marks]) -> str:
    """The same by the share of the region that changed, accepted or not."""
    rows = []
    for low, high in BINS:
        found = Broken.of(marks[one.name] for one in groups["bin", str(low), str(high)])
        rows.append([f"{100 * low:.0f} to {100 * high:.0f} %", *_judged(found)])
    return markdown(["changed inside", *_JUDGED], rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def proportion(bill: Bill) -> str:
    """Share accepted with its 95 % interval."""
    return _interval(bill.accepted, bill.scenes)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def each(bill: Bill) -> str:
    """UNet evaluations per accepted sample."""
    return NOTHING if bill.each is None else f"{bill.each:,.0f}"


def _acceptance(results: Results, setting: Setting) -> list[str]:
    first = results.first(setting)
    reasons = Counter(one.reason for one in first)
    changes = np.median([[one.change_inside, one.change_outside] for one in first], axis=0)
    differences = np.mean([[one.difference_inside, one.difference_outside] for one in first], axis=0)
    retried = setting.method in CHANCE
    return [
        proportion(results.bill(setting)),
        proportion(results.bill(setting, draws=DRAWS)) if retried else NOTHING,
        percent(reasons["unchanged"] / len(first)),
        percent(reasons["spilled"] / len(first)),
        percent(changes[0]),
        f"{100 * changes[1]:.2f} %",
        *(f"{100 * share:.2f} %" for share in differences),
    ]


_JUDGED = ("images", "broken", "marked pixels in the region, median", "an object is gone", "marks outside")


def _judged(found: Broken) -> list[str]:
    share = _interval(found.broken, found.images) if found.images else NOTHING
    return [str(found.images), share, _inside(found), _share_gone(found), _or_nothing(found.outside)]


def _share_broken(found: Broken) -> str:
    return f"{percent(found.broken / found.images)} of {found.images}" if found.images else NOTHING


def _share_gone(found: Broken) -> str:
    return percent(found.gone / found.images) if found.images else NOTHING


def _inside(found: Broken) -> str:
    return NOTHING if found.inside is None else f"{found.inside:g}"


def _or_nothing(share: float | None) -> str:
    return NOTHING if share is None else percent(share)


def _interval(hits: int, count: int) -> str:
    """Wilson's interval: a bootstrap of 0 hits would have no width."""
    around = binomtest(hits, count).proportion_ci(0.95, "wilson")
    return f"{percent(hits / count)} [{100 * around.low:.1f}, {100 * around.high:.1f}]"


def explanation(limits: Mapping[str, float], scenes: int) -> str:
    """A line on what was run."""
    return (
        f"{scenes} scenes. The verifier: {100 * limits['changed_threshold']:g} % difference makes a pixel changed, "
        f"{100 * limits['least_inside']:g} % of the region inside, {100 * limits['most_outside']:g} % outside beyond "
        f"{limits['margin']} pixels. Broken: {BROKEN} marked pixels within {NEAR} of the region; outside: more than "
        f"{FAR} from it."
    )
