"""Tables of accuracy where an iteration lacks what another has."""

from errata.report.tables import accuracy_tables
from errata.report.write import _md_text


def scored(iteration, **skills):
    one = {"n": 4, "right": 2, "accuracy": 0.5, "low": 0.2, "high": 0.8, "p": 0.25}
    return {
        "iteration": iteration,
        "protocol": "corrected",
        "scores": {"all": one, **{name: one | {"n": n} for name, n in skills.items()}},
    }


def test_a_skill_that_an_iteration_lacks_is_an_empty_cell():
    results = {"split": "test", "datasets": {"toy": [scored(0, sums=3), scored(1, days=2)]}}
    (table,) = accuracy_tables(results)
    assert table.heads == ("skill", "n", "start", "iteration 1", "p")
    assert [row[0] for row in table.rows] == ["days", "sums", "all"]
    assert table.rows[0][1:3] == ("2", "") and table.rows[0][4] == "0.250"
    assert table.rows[1][1] == "3" and table.rows[1][3:] == ("", "")


def test_markdown_shows_stars_tags_and_bars_as_they_are():
    assert _md_text("60.0**\n[1, 2]") == r"60.0\*\*<br>[1, 2]"
    assert _md_text("<b>a*b</b> | p < 0.05") == r"\<b>a\*b\</b> \| p < 0.05"
