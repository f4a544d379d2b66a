"""report.html: every number from the runs, nothing of the data alive, and the same in a browser at both widths."""

import asyncio
import json
from html.parser import HTMLParser

import pytest
from headless import CHROMIUM, browser
from page_runs import EVIL, made_run

from errata.report.answers import answers
from errata.report.arms import gather
from errata.report.figures import draw
from errata.report.gains import verdict
from errata.report.page import write_page
from errata.report.results import read
from errata.report.tables import TextTable

TABLE = TextTable(f"a table {EVIL}", ("name", "n", "a head"), [(EVIL, "1", "long words " * 12)] * 3)
BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page is not looked at in a browser")


class Parsed(HTMLParser):
    """The tags of a page, its addresses, and what its scripts hold."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.scripts, self.alts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        self.alts += [value for name, value in attrs if name == "alt"]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two arms, 120 questions, all texts as evil as can be."""
    folder = tmp_path_factory.mktemp("page")
    runs = [
        read(made_run(folder, f"{n}-0a", (30, 30 + more), n=120, answer=EVIL, k=more)) for n, more in (("a", 40), ("b", 3))
    ]
    groups = gather(runs)
    figures, missing = draw(groups, folder)
    return write_page(groups, folder, f"runs {EVIL}", [TABLE], [EVIL], figures, missing)


def test_nothing_of_the_data_is_markup_and_nothing_is_fetched(page):
    text = page.read_text(encoding="utf-8")
    found = Parsed(text)
    assert len(found.scripts) == 2 and found.tags.count("img") == 5 and len(found.alts) == 5 and all(found.alts)
    assert all(address.startswith(("data:", "#")) for address in found.addresses)
    assert "\u2028" not in found.scripts[0] and "default-src 'none'" in text
    data = json.loads(found.scripts[0])
    assert len(data["rows"]) == 240 and any(EVIL in each for each in data["texts"])
    assert any(EVIL in body for chain in data["chains"] for _, body in chain["steps"])


def test_the_verdict_is_made_from_the_numbers(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    assert "toy: 58.3 % of 120 questions right after iteration 1 with a-0a, which gained most of 2 arms" in text
    assert "25.0 % at the start: 33.3 points more" in text and "1 of the 2 arms got better" in text
    for name, right, said in (
        ("same", (5, 5), "0.0 points more (95 % interval -16.7 to +16.7, which includes no change"),
        ("worse", (9, 1), "80.0 points fewer"),
        ("once", (5,), "toy: 50.0 % [23.7, 76.3] of 10 questions right."),
    ):
        assert said in " ".join(verdict(gather([read(made_run(tmp_path, f"{name}-0a", right))])[0])), name
    assert verdict([]) == ["Nothing is measured yet."]


def said(found):
    return [(found.texts[row[0]], row[-1]) for row in found.rows]


def test_rows_say_what_changed_and_a_sample_is_the_same_each_time(tmp_path):
    runs = [read(made_run(tmp_path, "up-0a", (3, 5))), read(made_run(tmp_path, "once-0b", (4,)))]
    groups = gather(runs)
    arms = [arm for group in groups for arm in group]
    whole = answers(arms)
    kinds = [whole.texts[row[6]] for row in whole.rows]
    assert (whole.total, len(kinds)) == (20, 20)
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"right both times": 3, "gained": 2, "wrong both times": 5, "right": 4, "wrong": 6}
    some = answers(arms, cap=7)
    assert (some.total, len(some.rows)) == (20, 7)
    assert sorted(said(answers(arms[::-1], cap=7))) == sorted(said(some))
    assert len(answers(arms, cap=0).rows) == 0


def test_long_answers_are_cut_and_a_broken_chain_is_said(tmp_path):
    run = made_run(tmp_path, answer="x" * 9000)
    (run / "iteration_1/toy/instruct/replies.jsonl").write_bytes(b"")
    write_page(gather([read(run)]), tmp_path, "t", [], [])
    data = json.loads(Parsed((tmp_path / "report.html").read_text()).scripts[0])
    assert max(map(len, data["texts"])) < 3100 and any("characters more)" in each for each in data["texts"])
    assert all(chain["steps"][0][0] == "the chain is broken" for chain in data["chains"])


async def looked_at(page, profile):
    seen = {}
    async with browser(profile) as tab:
        for width in (1280, 400):
            await tab.open(page, width)
            seen[width] = await tab.run("[document.documentElement.scrollWidth, innerWidth]")
        seen["alive"] = await tab.run("document.querySelectorAll('#rows img, #rows script, #chains img').length")
        for name, script in SCRIPTS.items():
            seen[name] = await tab.run(f"(async () => {{ {WORDS} {script} }})()")
        seen["errors"], seen["addresses"] = tab.errors, tab.addresses
    return seen


WORDS = """
const form = document.getElementById("filters"), count = () => document.getElementById("count").textContent;
const cards = () => [...document.querySelectorAll("#rows article")], wait = (ms) => new Promise((done) => setTimeout(done, ms));
const set = async (name, value) => { form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("input", {bubbles: true})); await wait(200); };
"""
SCRIPTS = {
    "all": "return [count(), cards().length];",
    "gained": "await set('verdict', '=gained'); return [count(), new Set(cards().map((card) => card.className)).size];",
    "of b": "await set('run', '=b-0a'); return count();",
    "searched": "await set('search', 'QUESTION 31?'); return [count(), cards()[0].textContent.includes('Question 31?')];",
    "none": "await set('search', 'no such words'); return [count(), cards().length];",
    "reset": "form.querySelector('[type=reset]').click(); await wait(200); return count();",
    "turned": "document.getElementById('later').click(); return document.getElementById('page').textContent;",
    "chain": "const one = document.querySelector('details.chain'); one.open = true; await wait(200);"
    "return [...one.querySelectorAll('li .label')].map((label) => label.textContent);",
    "unlabelled": "return [...document.querySelectorAll('input, select')].filter((box) => !box.labels.length).length;",
}


@BROWSER
def test_the_page_in_a_browser(page, tmp_path):
    seen = asyncio.run(looked_at(page, tmp_path / "profile"))
    assert seen["errors"] == []
    assert {address.partition(":")[0] for address in seen["addresses"]} == {"file", "data"}
    assert seen[1280][0] <= 1280 and seen[400] == [400, 400]  # nothing makes the page itself scroll sideways
    assert seen["alive"] == 0
    assert seen["all"] == ["240 of 240 answers", 20]
    assert seen["gained"] == ["43 of 240 answers", 1]
    assert seen["of b"] == "3 of 240 answers"
    assert seen["searched"] == ["1 of 240 answers", True]
    assert seen["none"] == ["0 of 240 answers", 0]
    assert seen["reset"] == "240 of 240 answers"
    assert seen["turned"] == "21 to 40"
    assert seen["chain"][0].startswith("the error") and seen["chain"][-1].startswith("training row")
    assert seen["unlabelled"] == 0


async def timed(page, profile):
    async with browser(profile) as tab:
        await tab.open(page, 1280)
        return await tab.run(
            f"(async () => {{ {WORDS} const times = []; for (const each of ['question 9', 'x', '']) {{"
            "form.elements.search.value = each; const start = performance.now(); filter(); times.push(performance.now() - start);"
            "} return [count(), ...times]; })()"
        )


@BROWSER
@pytest.mark.slow
def test_ten_thousand_rows_are_fluid_and_what_is_left_out_is_said(tmp_path):
    run = made_run(tmp_path, right=(4000, 9000), n=12_000, answer="words " * 60)
    page = write_page(gather([read(run)]), tmp_path, "large", [], [])
    assert "10,000 of 12,000 are here" in page.read_text() and "2,000 are left out" in page.read_text()
    said, *times = asyncio.run(timed(page, tmp_path / "profile"))
    assert said == "10,000 of 10,000 answers" and max(times) < 1000, times
