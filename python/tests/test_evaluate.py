"""`evaluate` makes the run that the command makes, resumes, and leaves the interpreter to others while it works."""

import hashlib
import json
import re
import threading

import PIL.Image
import pytest
from conftest import command, contents, image, images_of

import dpg_bench


def test_the_run_is_that_of_the_command(tmp_path, demo, looking):
    part = demo.select(limit=2)
    images = images_of(part)
    for item, several in images.items():
        (tmp_path / "images" / item).mkdir(parents=True)
        for number, one in enumerate(several):
            PIL.Image.fromarray(one).save(tmp_path / "images" / item / f"{number}.png")
    by_command, by_module = tmp_path / "command", tmp_path / "module"
    command("import", "--images", tmp_path / "images", "--benchmark", "demo", "--limit", 2, "-n", 2, "--model", "m", "--out", by_command)
    command("judge", by_command, "--judge", "demo-judge")
    command("score", by_command)
    summary = dpg_bench.evaluate(images, benchmark=part, judge=looking, out=by_module, model="m")

    of_command, of_module = contents(by_command), contents(by_module)
    assert of_module.keys() == of_command.keys()
    summary_file = "summary/demo-judge.json"
    stored = {f"images/{item}/{number}.png" for item in images for number in range(2)}
    thumbnails = {f"thumbnails/{item}/{number}.jpg" for item in images for number in range(2)}
    assert {name for name in of_module if of_module[name] != of_command[name]} == {summary_file, "images.jsonl", *stored, *thumbnails}
    # After the JPEG a thumbnail has the length of its PNG.
    for name in thumbnails:
        by = [files[name].split(b"\ndpg-bench thumbnail ") for files in (of_command, of_module)]
        assert len(by[0]) == len(by[1]) == 2 and by[0][0] == by[1][0]
    # Each image and its record name the file that it came from.
    assert re.sub(r'"source":"[^"]*"', '"source":null', of_command["images.jsonl"].decode()) == of_module["images.jsonl"].decode()
    for name in stored:
        by = [PIL.Image.open(run / name) for run in (by_command, by_module)]
        assert by[0].tobytes() == by[1].tobytes()
        assert by[0].text == {**by[1].text, "source": name.removeprefix("images/")}
    # The summary says where images came from. No other key of it differs, and the text around these keys is the same.
    told = [flat(json.loads(files[summary_file])) for files in (of_command, of_module)]
    differing = {key for key in told[0].keys() | told[1].keys() if told[0].get(key, "absent") != told[1].get(key, "absent")}
    assert differing == {("run", "generation", key) for key in ["folder", "layout", "grid", "first_index", "map", "resolution"]}
    assert told[1]["run", "generation", "layout"] == "memory"
    assert without_generation(of_module) == without_generation(of_command)
    # The file is what the object says, and what the command makes of the same run.
    assert summary.to_json().encode() == of_module["summary/demo-judge.json"]
    command("score", by_module)
    assert contents(by_module) == of_module


def flat(told, path=()):
    """The values of a JSON document by their paths."""
    if not told or not isinstance(told, (dict, list)):
        return {path: told}
    parts = told.items() if isinstance(told, dict) else enumerate(told)
    return {place: value for key, part in parts for place, value in flat(part, (*path, key)).items()}


def without_generation(files):
    text = files["summary/demo-judge.json"].decode()
    start = text.index('    "generation": {')
    return text[:start] + text[text.index("    },", start) :]


def test_a_summary_tells_its_numbers(demo, scripted):
    part = demo.select(limit=3)
    summary = dpg_bench.evaluate(images_of(part), benchmark=part, judge=scripted)
    told = summary.to_dict()
    assert summary.score == told["corrected"]["overall"]["mean"]
    assert summary.low < summary.score < summary.high and summary.standard_error > 0
    by_name = {figure["name"]: figure for figure in told["corrected"]["l1"] + told["corrected"]["l2"]}
    assert summary.categories == {name: figure["conditional"]["mean"] for name, figure in by_name.items()}
    assert summary.under("reference").score == told["reference"]["overall"]["mean"]
    with pytest.raises(ValueError, match="state no P"):
        summary.under("soft")
    assert (summary.items, summary.gap, summary.judge) == (3, None, "scripted")
    assert "DPG-Bench score" in repr(summary) and f"{summary.score:.2f}" in repr(summary)
    html = summary._repr_html_()
    assert html.startswith("<table>") and f"{summary.score:.2f}" in html
    # Without `out` the run lives as long as someone speaks of it.
    run = summary.run
    del summary
    assert run.judges == ["scripted"]
    path = run.path
    del run
    assert not path.exists()


def test_what_is_missing_withholds_the_score(demo, scripted):
    part = demo.select(limit=3)
    images = images_of(part)
    images.pop(part.items[1].id)
    summary = dpg_bench.evaluate(images, benchmark=part, judge=scripted)
    assert summary.score is None and "image" in summary.gap
    forced = dpg_bench.evaluate(images, benchmark=part, judge=scripted, allow_incomplete=True)
    assert forced.score is not None


def test_two_threads_share_a_judge(tmp_path, demo, looking):
    parts = [demo.select(items=[item.id]) for item in demo.items[:2]]
    outs = [tmp_path / "0", tmp_path / "1"]
    threads = [
        threading.Thread(target=lambda part, out: dpg_bench.evaluate(images_of(part, 1), benchmark=part, judge=looking, out=out), args=pair)
        for pair in zip(parts, outs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (part, out) in enumerate(zip(parts, outs)):
        alone = tmp_path / f"alone{number}"
        dpg_bench.evaluate(images_of(part, 1), benchmark=part, judge=looking, out=alone)
        assert contents(alone) == contents(out)


def test_two_threads_ask_a_judge_about_different_images(demo, looking):
    item = demo.items[0]
    alone = [looking.answer(image(number), item.questions) for number in range(8)]
    together = [None] * 8

    def ask(first):
        for number in range(first, 8, 2):
            together[number] = looking.answer(image(number), item.questions)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def told(answers):
        return [(answer.text, answer.yes_probability) for answer in answers]

    assert [told(answers) for answers in together] == [told(answers) for answers in alone]
    assert len({str(told(answers)) for answers in alone}) > 1


def test_the_interpreter_is_free_while_networks_run(demo, looking):
    counted = 0
    done = threading.Event()

    def count():
        nonlocal counted
        while not done.wait(0.001):
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    looking.answer(image(1), 20 * [question.text for question in demo.items[0].questions])
    done.set()
    thread.join()
    # A held lock would have let it count once or twice.
    assert counted > 5


class Broken(Exception):
    pass


def test_an_iterator_that_fails_leaves_a_run_that_resumes(tmp_path, demo, scripted):
    part = demo.select(limit=4)
    images = images_of(part)

    def half_way():
        yield from list(images.items())[:2]
        raise Broken("the loader broke")

    out = tmp_path / "run"
    with pytest.raises(Broken, match="the loader broke"):
        dpg_bench.evaluate(half_way(), benchmark=part, judge=scripted, out=out)
    made = sorted(path.parent.name for path in out.glob("images/*/1.png"))
    assert made == sorted(list(images)[:2])
    # In another order, which changes nothing.
    dpg_bench.evaluate(reversed(images.items()), benchmark=part, judge=scripted, out=out)
    dpg_bench.evaluate(images, benchmark=part, judge=scripted, out=tmp_path / "at-once")
    assert contents(out) == contents(tmp_path / "at-once")


def test_other_images_are_no_resume(tmp_path, demo, scripted):
    part = demo.select(limit=2)
    dpg_bench.evaluate(images_of(part), benchmark=part, judge=scripted, out=tmp_path)
    before = contents(tmp_path)
    other = {item: several[::-1] for item, several in images_of(part).items()}
    with pytest.raises(ValueError, match="is another one than that in"):
        dpg_bench.evaluate(other, benchmark=part, judge=scripted, out=tmp_path)
    with pytest.raises(ValueError, match="has no item `nothing`"):
        dpg_bench.evaluate({"nothing": images_of(part)[part.items[0].id]}, benchmark=part, judge=scripted, out=tmp_path)
    assert contents(tmp_path) == before


def test_a_function_is_asked_for_each_image(tmp_path, demo, scripted):
    part = demo.select(limit=2)
    asked = []

    def model(prompt, seed):
        asked.append((prompt, seed, threading.current_thread()))
        return image(seed % 1000)

    def hashed(item, number):
        digest = hashlib.sha256(f"5\n{item}\n{number}".encode()).digest()
        return int.from_bytes(digest[:8], "big") & (2**63 - 1)

    made = dpg_bench.evaluate(model, benchmark=part, judge=scripted, out=tmp_path / "run", seed=5, images_per_item=3, model="mine")
    expected = [(item.prompt, hashed(item.id, number)) for item in part.items for number in range(3)]
    assert [(prompt, seed) for prompt, seed, _ in asked] == expected
    # `torch.no_grad` and the like hold for the thread that they were called in.
    assert {thread for _, _, thread in asked} == {threading.current_thread()}
    assert made.to_dict()["run"]["model"] == "mine"

    def breaks(prompt, seed):
        if len(asked) == 10:
            raise Broken
        return model(prompt, seed)

    out = tmp_path / "again"
    keywords = dict(benchmark=part, judge=scripted, out=out, seed=5, images_per_item=3, model="mine")
    with pytest.raises(Broken):
        dpg_bench.evaluate(breaks, **keywords)
    assert len(asked) == 10
    dpg_bench.evaluate(model, **keywords)
    assert [(prompt, seed) for prompt, seed, _ in asked[6:]] == expected
    assert contents(out) == contents(tmp_path / "run")


def test_a_run_is_read_compared_checked_and_reported(tmp_path, demo, scripted):
    part = demo.select(limit=3)
    strict = dpg_bench.Judge("scripted", rule="hash:0.2", label="scripted")
    for name, number, judge in [("a", 0, scripted), ("b", 1, scripted)]:
        images = {item: several[number:] + several[:number] for item, several in images_of(part).items()}
        dpg_bench.evaluate(images, benchmark=part, judge=judge, out=tmp_path / name, model=name)
    runs = [dpg_bench.Run.open(tmp_path / name) for name in "ab"]
    summary = runs[0].summary()
    assert summary.to_json().encode() == (tmp_path / "a" / "summary" / "scripted.json").read_bytes()
    found = dpg_bench.compare(*runs)
    assert found.items == 3 and found.difference == found.to_dict()["figures"][0]["difference"]
    assert "DPG-Bench score" in repr(found)
    outcome = dpg_bench.check(runs[1], runs[0], max_drop=50)
    # Three items pass nothing.
    assert outcome.outcome == "undecided" and not outcome.passed
    page = dpg_bench.report(runs, tmp_path / "report")
    assert page == tmp_path / "report" / "index.html" and page.is_file()
    # Other answers under a name that has some.
    with pytest.raises(dpg_bench.DpgBenchError, match="other settings"):
        dpg_bench.evaluate(images_of(part), benchmark=part, judge=strict, out=tmp_path / "a", model="a")
