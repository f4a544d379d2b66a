"""Questions of several turns: read, answered turn by turn, graded behind the conversation, summed up by turn."""

import json

import pytest
from tests.instructor.test_openai import KEY, Server
from tests.judge.test_judging import ScriptedJudge, made
from tests.scripted import Scripted

from errata.chat import conversation_ids
from errata.corpus.instruction_set import InstructionSet
from errata.errors import DataError
from errata.jsonl import decode_lines
from errata.judge.base import Item
from errata.judge.mt_bench import MTBench
from errata.judge.pairwise import Pairwise
from errata.judging import expected, judge, read_items
from errata.model.base import TOO_LONG, Answer
from errata.model.endpoint import EndpointStudent
from errata.model.hf import HF
from errata.records import Judgement, Pair, Prompt, Reply
from errata.report.against import against
from errata.report.beside import Beside
from errata.report.judged_table import judged_tables
from errata.report.paper_text import text_table
from errata.report.published import row
from errata.report.verdict_plot import VERDICT_PLOT, plot_verdicts
from errata.report.verdicts import collect_verdicts, verdict_lines, verdict_tables
from errata.run_folder import RunFolder
from errata.stage.respond import respond

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Name a bird.", "And a fish."]},
    {"question_id": 101, "category": "math", "turns": ["Add 1 and 2.", "Double it."], "reference": ["3", "6"]},
]
FIELDS = {"id": "question_id", "instruction": "turns", "output": "reference", "skill": "category"}


def questions(tmp_path, rows=QUESTIONS, **settings):
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return InstructionSet(str(file), format="turns", fields=FIELDS, **settings)


@pytest.fixture
def mt_bench(tmp_path):
    return {"mt_bench": questions(tmp_path)}


class Remembers(Scripted):
    """Answers with what it was asked, number and all: `2:And a fish.` behind one earlier turn."""

    def answers(self, prompts, max_new_tokens, stop=()):
        for place, prompt in enumerate(prompts):
            self.asked.append((prompt.user, prompt.history))
            text = self.rule(f"{len(prompt.history) + 1}:{prompt.user}")
            yield place, Answer("", False, TOO_LONG) if text == "long" else Answer(text, True, tokens=1)


def same(text):
    return text


def test_a_turn_is_a_pair_that_waits_for_the_answers_before_it(tmp_path):
    rows = [*QUESTIONS, {"question_id": 9, "category": "x", "turns": ["a", "b", "c"], "reference": ["A"]}]
    pairs = list(questions(tmp_path, rows).pairs("mt_bench"))
    assert [pair.id for pair in pairs[:3]] == ["mt_bench/81/turn_1", "mt_bench/81/turn_2", "mt_bench/101/turn_1"]
    assert [(pair.instruction, pair.output, pair.skill) for pair in pairs[2:4]] == [
        ("Add 1 and 2.", "3", "math"), ("Double it.", "6", "math"),
    ]  # fmt: skip
    assert [pair.history for pair in pairs[4:]] == [(), (("a", ""),), (("a", ""), ("b", ""))]
    assert [pair.output for pair in pairs[4:]] == ["A", "", ""]
    assert len(list(questions(tmp_path, rows, limit=1).pairs("mt_bench"))) == 2, "a limit counts questions"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"question": "Why?"}, "no field 'turns'"),
        ({"turns": "Why?"}, "must be a list"),
        ({"turns": []}, "must be a list"),
        ({"turns": ["Why?", " "]}, "turn 2 of 2 is empty"),
        ({"turns": ["Why?", None]}, "turn 2 of 2 is empty"),
        ({"turns": [{"value": "Why?"}]}, "'turns' is no text but a dict"),
        ({"turns": ["Why?"], "reference": ["a", "b"]}, "2 references for 1 turns"),
        ({"turns": ["Why?"], "reference": "a"}, "references must be a list"),
    ],
)
def test_a_record_of_another_form_is_named(tmp_path, record, said):
    rows = [*QUESTIONS, {"question_id": 7, "category": "x"} | record]
    with pytest.raises(DataError, match=said) as error:
        list(questions(tmp_path, rows).pairs("mt_bench"))
    assert "questions.jsonl, line 3" in str(error.value)


def test_turns_without_answers_train_nobody(tmp_path):
    corpus = questions(tmp_path)
    assert corpus.problems("testset.mt_bench") == []
    (problem,) = corpus.problems("corpus.mt_bench")
    assert "corpus.mt_bench.format" in problem


def test_references_under_another_name_are_missed_aloud(tmp_path, caplog):
    list(questions(tmp_path, QUESTIONS[:1]).pairs("mt_bench"))
    assert "no record of" in caplog.text
    assert "'reference'" in caplog.text


PROMPTS = [
    Prompt("a/1", "a1"), Prompt("a/2", "a2", history=(("a1", ""),)), Prompt("b/1", "b1"),
    Prompt("c/1", "c1"), Prompt("c/2", "c2", history=(("c1", ""),)), Prompt("c/3", "c3", history=(("c1", ""), ("c2", ""))),
    Prompt("d/1", "d2", history=(("d1", "given"),)),
]  # fmt: skip


def asked(folder, rule):
    model = Remembers(rule)
    return respond(folder.stage("respond", n=1), model, PROMPTS, 8), model.asked


def test_all_first_turns_then_all_second_ones_behind_the_models_own_answers(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        answers, turns = asked(folder, same)
    assert [answer.text for answer in answers] == ["1:a1", "2:a2", "1:b1", "1:c1", "2:c2", "3:c3", "2:d2"]
    assert [user for user, _ in turns] == ["a1", "b1", "c1", "d2", "a2", "c2", "c3"]
    assert dict(turns)["c3"] == (("c1", "1:c1"), ("c2", "2:c2"))
    assert dict(turns)["d2"] == (("d1", "given"),), "a history that is complete stays as it is"


@pytest.mark.parametrize("last", ["1:b1", "2:a2", "2:c2", "3:c3"])
def test_killed_anywhere_it_goes_on_with_what_was_said(tmp_path, last):
    def killed(text):
        if text == last:
            raise KeyboardInterrupt
        return text

    with RunFolder(tmp_path / "run", {}) as folder:
        with pytest.raises(KeyboardInterrupt):
            asked(folder, killed)
        answers, turns = asked(folder, lambda text: f"{text}!")
    assert [answer.text.removesuffix("!") for answer in answers] == ["1:a1", "2:a2", "1:b1", "1:c1", "2:c2", "3:c3", "2:d2"]
    known = {prompt.user: answer.text for prompt, answer in zip(PROMPTS, answers, strict=True)}
    assert all(said == known[user] for _, history in turns for user, said in history if said != "given")
    assert "a1" not in dict(turns), "it was answered before the kill"


def test_a_turn_behind_one_without_an_answer_is_not_asked(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        answers, turns = asked(folder, lambda text: "long" if text == "2:c2" else text)
    assert [answer.failure for answer in answers] == [None, None, None, None, TOO_LONG, TOO_LONG, None]
    assert "c3" not in dict(turns)


def test_a_model_is_asked_by_its_own_template_as_in_training(tiny_model):
    student = HF(str(tiny_model))
    history = (("one", "two"), ("three", ""))
    said = [(role, text) for turn in history for role, text in zip(("user", "assistant"), turn, strict=True)]
    messages = [{"role": role, "content": text} for role, text in [*said, ("user", "five"), ("assistant", "six")]]
    ids, spans = conversation_ids(student.tokenizer, messages)
    assert student._prompt_ids(Prompt("x", "five", history=history)) == ids[: spans[-1][0]]


def test_a_server_is_sent_the_turns(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    server = Server()
    try:
        model = EndpointStudent("m", server.url, api_key_env="SOME_KEY", timeout_s=5, system="Be brief.")
        list(model.answers([Prompt("x", "three", history=(("one", "two"),))], 16))
        (body,) = server.bodies
    finally:
        server.stop()
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "three"),
    ]  # fmt: skip


def graded(answer, text, history=(), output="", finish_reason="stop"):
    how, pair = MTBench(), Pair("mt_bench/1/turn_1", "Double it.", "", output, "mt_bench", skill="math", history=history)
    (request,) = how.requests(Item(pair, answer))
    reply = Reply(request.id, "mt_bench", pair.id, "k", text, finish_reason, None if text is not None else "HTTP 500")
    return request.messages[-1]["content"], how.judgement(Item(pair, answer), [reply])


@pytest.mark.parametrize(
    ("text", "score", "reason"),
    [
        ("Score: 7\nIt is right.", 7, ""),
        ("Score: 8.5/10", 8.5, ""),
        ("10", 10, ""),
        ("Score: 0", None, "unparsed"),
        ("Score: 11", None, "unparsed"),
        ("Score: 4/5", None, "unparsed"),
        ("It is rather good.", None, "unparsed"),
        (None, None, "no_reply"),
    ],
)
def test_a_grade_is_between_1_and_10_or_missing_with_a_reason(text, score, reason):
    _, found = graded("six", text)
    assert (found.score, found.reason, found.parts) == (score, reason, {"turn 1": score})


def test_the_second_turn_is_judged_behind_the_first_and_beside_its_reference():
    shown, found = graded("It is six.", "Score: 9", (("Add 1 and 2.", "That is three."),), "6")
    assert (
        shown.index("Add 1 and 2.") < shown.index("That is three.") < shown.index("Double it.") < shown.index("It is six.")
    )
    assert "<reference>\n6\n</reference>" in shown
    assert found.parts == {"turn 2": 9}
    alone, _ = graded("It is six.", "Score: 9")
    assert "<reference>" not in alone


def by_turn(prompt):
    """Grades the second turns lower than the first; cannot say about fish."""
    if "Double" in prompt:
        return "Score: 3"
    return "Well." if "<conversation>\nUser: Name a bird." in prompt else "Score: 8"


def test_a_conversation_is_answered_graded_and_summed_up_by_turn(tmp_path, mt_bench):
    instructor = ScriptedJudge(by_turn)
    run = judge(made(tmp_path, MTBench(), instructor, mt_bench, Remembers(same)))
    results = collect_verdicts(run)
    found = results["summary"]["sets"]["mt_bench"]
    assert (found["turns"]["turn 1"]["mean"], found["turns"]["turn 1"]["n"]) == (8, 2)
    assert (found["turns"]["turn 2"]["mean"], found["turns"]["turn 2"]["n"]) == (3, 1)
    assert found["all"]["scores"] == [8, 5.5]
    assert list(found["categories"]) == ["writing", "math"]
    assert (found["items"], found["no_verdict"], found["reasons"]) == (4, 1, {"unparsed": 1})
    items = [json.loads(line) for line in (run / "judge/items.jsonl").read_text().splitlines()]
    assert items[1]["question"]["history"] == [["Name a bird.", "1:Name a bird."]]
    assert sum(instructor.asked.values()) == 4

    (table,) = verdict_tables(results)
    assert table.heads == ("category", "questions", "turn 1", "turn 2", "over all")
    assert table.rows[0] == ("writing", "1", "8.00", "no verdict", "8.00")
    assert table.rows[-1] == ("all", "2", "8.00 [8.00, 8.00]", "3.00", "6.75 [5.50, 8.00]")
    assert "unparsed 1" in "\n".join(verdict_lines(results))
    plot_verdicts(results, tmp_path / VERDICT_PLOT)
    assert (tmp_path / VERDICT_PLOT).stat().st_size > 5000

    beside = against(results | {"config": {}}, row("reflection_tuning/mt_bench/Vicuna 7B v1.5"))
    first, second = beside["cells"]
    assert (first["measured"], first["printed"], first["n"], first["published_n"]) == (8, 6.569, 2, 80)
    assert (second["measured"], second["printed"], second["low"]) == (3, 5.588, None)

    idle = ScriptedJudge(by_turn)
    assert judge(made(tmp_path, MTBench(), idle, mt_bench, Remembers(same))) == run
    assert not idle.asked


def test_a_table_of_several_models_says_on_how_much_its_means_rest(tmp_path, mt_bench):
    run = judge(made(tmp_path, MTBench(), ScriptedJudge(by_turn), mt_bench, Remembers(same)))
    found = collect_verdicts(run) | {"config": {"model": {"path": "a"}}}
    _, (table,), lines = judged_tables([found, found | {"run": "other", "config": {"model": {"path": "b"}}}], Beside())
    assert f"{run.name}: model.path=a; other: model.path=b" in lines
    assert f"items without a verdict, counted nowhere else: {run.name}: 1 of 4; other: 1 of 4" in lines
    assert "8.00" in " ".join(text_table(table).rows[0]), "half a point of ten counts: two digits"


def test_what_cannot_be_answered_takes_its_later_turns_along(tmp_path, mt_bench):
    model = Remembers(lambda text: "long" if "bird" in text else text)
    run = judge(made(tmp_path, MTBench(), ScriptedJudge(lambda prompt: "Score: 6"), mt_bench, model))
    found = decode_lines((run / "judge/judgements.jsonl").read_bytes(), Judgement)
    assert [one.reason for one in found] == [f"no_answer: {TOO_LONG}"] * 2 + [""] * 2
    assert collect_verdicts(run)["summary"]["sets"]["mt_bench"]["reasons"] == {"no_answer": 2}


ANSWERS = {
    "lists": [{"question_id": 101, "output": ["c", "d"]}, {"question_id": 81, "output": ["a", "b"]}],
    "fastchat": [
        {"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}]},
        {"question_id": 101, "model_id": "m", "choices": [{"index": 0, "turns": ["c", "d"]}]},
    ],
    "in order": [{"response": ["a", "b"]}, {"response": ["c", "d"]}],
    "turn by turn": [{"id": f"{key}/turn_{n}", "response": text} for key, n, text in
                     ((81, 1, "a"), (81, 2, "b"), (101, 2, "d"), (101, 1, "c"))],
}  # fmt: skip


@pytest.mark.parametrize("form", ANSWERS)
def test_stored_answers_of_several_turns_find_their_questions(tmp_path, mt_bench, form):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(ANSWERS[form]))
    items = read_items(made(tmp_path, MTBench(), None, mt_bench, answers=str(file)))
    assert [item.answer for item in items] == ["a", "b", "c", "d"]
    assert [item.question.history for item in items[1::2]] == [(("Name a bird.", "a"),), (("Add 1 and 2.", "c"),)]


def test_a_failure_that_fastchat_wrote_is_no_answer(tmp_path, mt_bench):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(ANSWERS["fastchat"]).replace('["a", "b"]', '["$ERROR$", "b"]'))
    items = read_items(made(tmp_path, MTBench(), None, mt_bench, answers=str(file)))
    assert [item.left_out.partition(":")[0] for item in items] == ["no_answer", "no_answer", "", ""]


def test_a_run_that_answered_is_a_file_of_answers(tmp_path, mt_bench):
    run = judge(made(tmp_path, MTBench(), ScriptedJudge(by_turn), mt_bench, Remembers(same)))
    items = read_items(made(tmp_path, MTBench(), None, mt_bench, answers=str(run)))
    assert [item.answer for item in items][:2] == ["1:Name a bird.", "2:And a fish."]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question_id": 81, "output": ["a", "b"]}, {"question_id": 101, "output": ["c"]}], "mt_bench/101/turn_2"),
        ([{"question_id": 81, "output": "a"}, {"question_id": 101, "output": "c"}], "mt_bench/81/turn_1"),
        ([{"question_id": 81, "output": ["a", None]}], "record 0: no answer.*of a question of several turns a list"),
        (QUESTIONS, "record 0: no answer"),
        ([{"output": ["a"]}, {"output": ["c"]}], "mt_bench has 4 items.*2 answers"),
        ([{"output": ["a", "b", "c"]}, {"output": ["d"]}], "mt_bench/101/turn_1 its lists of answers do not fit"),
        ([{"output": ["a"]}, {"output": ["b", "c", "d"]}], "mt_bench/81/turn_2 its lists of answers do not fit"),
    ],
)
def test_stored_answers_that_do_not_fit_are_said(tmp_path, mt_bench, rows, said):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=said):
        read_items(made(tmp_path, MTBench(), None, mt_bench, answers=str(file)))


@pytest.mark.parametrize("other", ["reference", "file"])
def test_two_conversations_are_not_compared(tmp_path, other):
    rows = [row | {"reference": ["x", "y"]} for row in QUESTIONS]
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(ANSWERS["lists"]))
    path = str(file) if other == "file" else other
    with pytest.raises(DataError, match=r"mt_bench asks in several turns.*judge=mt_bench"):
        read_items(
            made(tmp_path, Pairwise(), None, {"mt_bench": questions(tmp_path, rows)}, answers=str(file), against=path)
        )


def test_the_plan_counts_earlier_answers_at_their_longest(tmp_path, mt_bench):
    setup = made(tmp_path, MTBench(), ScriptedJudge(by_turn), mt_bench, max_new_tokens=50)
    texts = [request.messages[-1]["content"] for request in expected(setup, read_items(setup))]
    assert [text.count("word" * 50) for text in texts] == [1, 2, 1, 2]


def test_questions_that_differ_make_another_table_and_answers_do_not(tmp_path, mt_bench):
    def judged(name, model, testset):
        (tmp_path / name).mkdir()
        run = judge(made(tmp_path / name, MTBench(), ScriptedJudge(by_turn), testset, model))
        return collect_verdicts(run) | {"run": name, "config": {"model": {"path": name}}}

    (tmp_path / "other").mkdir()
    other = questions(tmp_path / "other")
    file = tmp_path / "other" / "questions.jsonl"
    file.write_text(file.read_text().replace("a bird", "a tree"))
    runs = [
        judged("a", Remembers(same), mt_bench),
        judged("b", Remembers(str.upper), mt_bench),
        judged("c", Remembers(same), {"mt_bench": other}),
    ]
    _, tables, lines = judged_tables(runs, Beside())
    assert [len(text_table(table).rows) for table in tables] == [2, 1]
    assert "judged apart, by another judge, opponent or test set: c" in lines
