"""What got better, by how much and how surely: sentences and a table that are made from the numbers alone."""

from collections.abc import Sequence

from errata.report.arms import Arm, Gain
from errata.report.smoke_size import smoke_line
from errata.report.tables import TextTable, p_value, percent

_MOST = 6


def verdict(arms: Sequence[Arm]) -> list[str]:
    """The outcome: a sentence a dataset, of the arm that gained most, and a caution where it was picked of several."""
    sentences = []
    datasets = list(dict.fromkeys(name for arm in arms for name in arm.datasets))
    for name in datasets[:_MOST]:
        gains = [(arm, gain) for arm in arms if (gain := arm.gain(name)) is not None]
        if not gains:
            sentences += _measured(arms, name)
        elif len(gains) == 1:
            sentences.append(_sentence(name, gains[0][1], "" if len(arms) == 1 else f" ({gains[0][0].name})"))
        else:
            best = max(gains, key=lambda pair: pair[1].difference)
            surely = sum(gain.low > 0 for _, gain in gains)
            worse = sum(gain.high < 0 for _, gain in gains)
            sentences.append(
                _sentence(name, best[1], f" with {best[0].name}, which gained most of {len(gains)} arms")
                + f" {surely} of the {len(gains)} arms got better and {worse} worse, by intervals that leave 0 out."
            )
    if len(datasets) > _MOST:
        sentences.append(f"{len(datasets) - _MOST} more datasets are in the tables.")
    if len(arms) > 1 and any(arm.gain(name) for arm in arms for name in datasets):
        sentences.append(
            "The best of several arms is picked after the fact: whether arms differ is for the corrected p-values to say."
        )
    if told := smoke_line([run.name for arm in arms for run in arm.runs]):
        sentences.insert(0, f"{told[0].upper()}{told[1:]}.")
    unfinished = [run.name for arm in arms for run in arm.runs if run.results.get("unfinished")]
    if unfinished:
        sentences.append(f"Not finished yet: {', '.join(unfinished[:_MOST])}{' ...' if len(unfinished) > _MOST else ''}.")
    return sentences or ["Nothing is measured yet."]


def gains_table(arms: Sequence[Arm]) -> list[TextTable]:
    """Every arm and dataset: before, after, and the difference with its interval."""
    rows = []
    for arm in arms:
        for name in arm.datasets:
            gain = arm.gain(name)
            if gain is not None:
                changes = ("", "") if gain.gained is None else (str(gain.gained), str(gain.lost))
                shares = (f"{percent(gain.before)} %", f"{percent(gain.after)} %", _interval(gain))
                rows.append((arm.name, name, str(gain.iteration), str(gain.seeds), f"{gain.n:,}", *shares, *changes,
                             p_value(gain.p)))  # fmt: skip
    heads = ("arm", "dataset", "iteration", "seeds", "questions", "start", "then", "points [95 % interval]")
    return [TextTable("gain over the start, on the same questions", (*heads, "gained", "lost", "p"), rows)] if rows else []


def _sentence(name: str, gain: Gain, which: str) -> str:
    direction = "more" if gain.difference >= 0 else "fewer"
    sure = "" if gain.low > 0 or gain.high < 0 else ", which includes no change"
    said = f"{name}: {percent(gain.after)} % of {gain.n:,} questions right after iteration {gain.iteration}{which}, "
    said += f"{percent(gain.before)} % at the start: {abs(100 * gain.difference):.1f} points {direction} "
    said += f"(95 % interval {_range(gain)}{sure}; "
    if gain.gained is None:
        return f"{said}p = {p_value(gain.p)}, {gain.seeds} seeds together)."
    return f"{said}exact McNemar p = {p_value(gain.p)}); {gain.gained} questions gained, {gain.lost} lost."


def _measured(arms: Sequence[Arm], name: str) -> list[str]:
    """A dataset with a single measurement: the accuracy alone."""
    held = [(arm, arm.points(name)[-1]) for arm in arms if arm.points(name)]
    if not held:
        return []
    arm, point = max(held, key=lambda pair: pair[1].accuracy)
    interval = "" if point.low is None or point.high is None else f" [{percent(point.low)}, {percent(point.high)}]"
    best = "" if len(held) == 1 else f", the highest of {len(held)} ({arm.name})"
    return [f"{name}: {percent(point.accuracy)} %{interval} of {point.n:,} questions right{best}."]


def _interval(gain: Gain) -> str:
    return f"{100 * gain.difference:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _range(gain: Gain) -> str:
    return f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
