"""The review: nothing in the data comes alive in it, and what people decided is what goes on."""

import json
import random
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from errata.errors import DataError
from errata.jsonl import encode_lines
from errata.records import Pair, Revision
from errata.report.review import decide, differences, read_decisions, write_review

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> &lt;b&gt; \u2028 {{ 7 * 7 }}'


def revision(name, status="revised", before="It is Mars.", after="It is the planet Mars.", **fields):
    original = Pair(name, "Name a planet.", "", before, "set")
    final = {"revised": Pair(name, "Name one planet.", "", after, "set"), "kept": original, "dropped": None}[status]
    return Revision(name, original, final, status, **fields)


REVISIONS = [
    revision("set/0"),
    revision("set/1", "kept", reason="half", detail="no ### Response", rejected="### Instruction\nName"),
    revision("set/2", "dropped", reason="easy", scores={"ifd": 0.25, "rifd": None}),
    revision("set/3", before=EVIL, after=f"{EVIL} more", critiques={"instruction": EVIL}),
]


class Page(HTMLParser):
    """Counts the tags, and collects what each script holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.addresses = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("review") / "review.html"
    write_review(path, REVISIONS, "revise <b>1</b>")
    return path.read_text(encoding="utf-8")


def test_the_page_holds_every_row_and_nothing_of_the_data_is_markup(page):
    found = Page(page)
    assert len(found.scripts) == 2
    assert not {"img", "b", "iframe", "link"} & set(found.tags)
    assert found.addresses == []
    assert "http" not in page.replace("http-equiv", "")
    assert "<title>Review: revise &lt;b&gt;1&lt;/b&gt;</title>" in page
    rows = json.loads(found.scripts[0])
    assert [row["id"] for row in rows] == ["set/0", "set/1", "set/2", "set/3"]
    runs = rows[3]["texts"][2]
    assert "".join(text for side, text in runs if side != 1) == EVIL
    assert "".join(text for side, text in runs if side != -1) == f"{EVIL} more"
    assert rows[2]["scores"] == "ifd 0.25, rifd missing"
    assert rows[1]["rejected"] == "### Instruction\nName"


def test_the_page_counts_by_status_and_reason_and_says_how_responses_grew(page):
    text = " ".join(page.split())
    assert "4 pairs." in text
    for status, reason, count in (("revised", "whole", 2), ("kept", "half", 1), ("dropped", "easy", 1)):
        row = text[text.index(f"<tr><td>{status}</td>") :].split("</tr>")[0]
        assert f">{reason}</button>" in row and f">{count}</td>" in row and f">{count / 4:.1%}".replace("%", " %") in row
    assert "(medians)" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here to read the page's script with")
def test_the_pages_script_is_javascript(page, tmp_path):
    file = tmp_path / "review.js"
    file.write_text(Page(page).scripts[1])
    done = subprocess.run(["node", "--check", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_page_of_nothing_and_of_nothing_revised(tmp_path):
    for revisions in ([], REVISIONS[1:3]):
        write_review(tmp_path / "review.html", revisions, "run")
        text = (tmp_path / "review.html").read_text()
        assert f"{len(revisions)} pairs." in text and "medians" not in text


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ("", "", []),
        ("a b", "a b", [(0, "a b")]),
        ("", "a b", [(1, "a b")]),
        ("a b c", "a c", [(0, "a "), (-1, "b "), (0, "c")]),
        ("a b c", "a x y c", [(0, "a "), (-1, "b "), (1, "x y "), (0, "c")]),
        ("a b", "a\n\nb", [(0, "a"), (-1, " "), (1, "\n\n"), (0, "b")]),
        ("Mars", "Mars ", [(0, "Mars"), (1, " ")]),
        ("它是火星", "它是一颗火星", [(0, "它是"), (1, "一颗"), (0, "火星")]),
    ],
)
def test_differences_are_marked_by_words(before, after, runs):
    assert differences(before, after) == runs


def test_both_texts_can_be_read_out_of_the_differences():
    rng = random.Random(3)
    words = ["a", "b", "c", " ", "  ", "\n", "火", "</script>", "\u2028", "b."]
    for _ in range(1000):
        before, after = ("".join(rng.choices(words, k=rng.randrange(12))) for _ in range(2))
        runs = differences(before, after)
        assert "".join(text for side, text in runs if side != 1) == before
        assert "".join(text for side, text in runs if side != -1) == after
        assert all(text for _, text in runs)
        assert all(first[0] != second[0] for first, second in pairwise(runs))


def outputs(pairs):
    return {pair.id: pair.output for pair in pairs}


def test_what_is_not_decided_goes_on_as_the_revision_says():
    assert list(outputs(decide(REVISIONS, {}))) == ["set/0", "set/1", "set/3"]
    assert outputs(decide(REVISIONS, {}))["set/0"] == "It is the planet Mars."


def test_decisions_are_followed_pair_by_pair():
    edit = {"edit": {"instruction": "Name Mars.", "output": "Mars"}}
    pairs = decide(REVISIONS, {"set/0": "reject", "set/1": "accept", "set/2": "reject", "set/3": edit})
    assert [pair.id for pair in pairs] == ["set/0", "set/1", "set/2", "set/3"]
    assert pairs[0] == REVISIONS[0].original  # whole: the instruction too
    assert pairs[2] == REVISIONS[2].original  # the drop was rejected
    assert (pairs[3].instruction, pairs[3].input, pairs[3].output, pairs[3].source) == ("Name Mars.", "", "Mars", "set")
    assert decide(REVISIONS, {"set/2": "accept"}) == decide(REVISIONS, {})
    assert len(decide(REVISIONS, {"set/2": edit})) == 4


def test_decisions_come_back_from_their_file(tmp_path):
    path = tmp_path / "decisions.json"
    decisions = {"set/0": "reject", "set/1": {"edit": {"instruction": "a", "input": "", "output": "b"}}}
    path.write_text(json.dumps(decisions))
    assert read_decisions(path, REVISIONS) == decisions


def test_an_edit_with_half_a_surrogate_can_be_stored(tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text('{"set/0": {"edit": {"instruction": "a\\ud83d", "input": "", "output": "b"}}}')
    decisions = read_decisions(path, REVISIONS)
    assert decisions == {"set/0": {"edit": {"instruction": "a?", "input": "", "output": "b"}}}
    assert encode_lines(decide(REVISIONS, decisions))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "no JSON"),
        ("[]", "expected one object"),
        ('{"set/9": "accept", "set/0": "accept"}', "1 of 2 ids are not among these revisions, 'set/9' first"),
        ('{"set/0": "yes"}', "set/0 is 'yes'; expected accept, reject, remove or"),
        ('{"set/0": null}', "expected accept, reject, remove or"),
        ('{"set/0": {"edit": {"output": "b"}}}', "expected accept, reject, remove or"),
        ('{"set/0": {"edit": {"instruction": "a", "output": "b", "id": "c"}}}', "expected accept, reject, remove or"),
        ('{"set/0": {"edit": {"instruction": "a", "output": 3}}}', "no text"),
        ('{"set/0": {"edit": {"instruction": "a", "output": " "}}}', "empty instruction or response"),
    ],
)
def test_decisions_that_cannot_be_followed_say_why(content, said, tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_decisions(path, REVISIONS)
    with pytest.raises(DataError, match="No such file"):
        read_decisions(tmp_path / "absent.json", REVISIONS)
    with pytest.raises(DataError, match="not among"):
        decide(REVISIONS, {"other/1": "accept"})
