"""A benchmark tells its items; a judge answers about one image."""

import pytest
from conftest import image

import dpg_bench


def test_a_benchmark_tells_its_items(demo):
    assert len(demo) == 72 == len(demo.prompts) == len(demo.items)
    item = demo.items[3]
    assert demo[item.id].prompt == item.prompt == demo.prompts[item.id]
    assert [question.text for question in demo.questions[item.id]] == [question.text for question in item.questions]
    assert item.graph == {question.id: question.parents for question in item.questions}
    assert any(question.parents for question in item.questions)
    question = item.questions[0]
    assert question.l2.startswith(question.l1) and question.tuple.startswith(question.l2)
    with pytest.raises(KeyError):
        demo["nothing"]


def test_a_part_of_a_benchmark(demo):
    part = demo.select(subset=5)
    assert len(part) == 5 and part.digest == demo.digest
    assert {item.id for item in part.items} < {item.id for item in demo.items}
    with pytest.raises(ValueError, match="nothing"):
        demo.select(items=["nothing"])


def test_what_is_not_there_is_a_value_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no benchmark at demi .did you mean `demo`"):
        dpg_bench.Benchmark.load("demi")
    with pytest.raises(ValueError, match="dpg-bench fetch benchmark"):
        dpg_bench.Benchmark.load("dpg")
    with pytest.raises(ValueError, match="mplug"):
        dpg_bench.Judge("mplugg")
    with pytest.raises(ValueError, match="manifest"):
        dpg_bench.Run.open(tmp_path)


def test_a_judge_answers_about_one_image(demo, looking):
    item = demo.items[0]
    answers = looking.answer(image(3), item.questions)
    assert len(answers) == len(item.questions)
    assert {answer.text for answer in answers} <= {"yes", "no"}
    assert all(answer.failure is None for answer in answers)
    # Alone or together, as text or as a question.
    assert looking.answer(image(3), [item.questions[-1].text])[0].text == answers[-1].text
    assert looking.answer(image(3), []) == []
    with pytest.raises(dpg_bench.DpgBenchError, match="images of 32 x 32 pixels"):
        looking.answer(image(3, 32), item.questions)
