"""`compare` and `check` choose among judges, and refuse what means nothing with the sentence and the status of the command."""

import json
import math

import PIL.Image
import PIL.ImageDraw
import pytest
from conftest import command, images_of

import dpg_bench


@pytest.fixture(scope="module")
def runs(tmp_path_factory, demo):
    """Two runs of 30 items, in which one judge that looks at the images and one that does not have answered, and a baseline of the
    first run by the one that looks."""
    part = demo.select(limit=30)
    judges = [dpg_bench.Judge("demo-judge", label="first"), dpg_bench.Judge("scripted", rule="hash:0.4", label="second")]
    folder = tmp_path_factory.mktemp("compared")
    drawn = PIL.Image.new("RGB", (64, 64), "white")
    PIL.ImageDraw.Draw(drawn).rectangle((8, 8, 30, 30), fill="red")
    PIL.ImageDraw.Draw(drawn).ellipse((34, 34, 60, 60), fill="blue")
    for name, images in [("a", images_of(part, 1)), ("b", dict.fromkeys(part.prompts, drawn))]:
        for judge in judges:
            dpg_bench.evaluate(images, benchmark=part, judge=judge, out=folder / name, model=name)
    command("baseline", folder / "a", "--judge", "first", "--out", folder / "baseline.json")
    return folder


def test_the_judge_can_be_chosen(runs):
    a, b = dpg_bench.Run.open(runs / "a"), runs / "b"
    assert a.judges == ["first", "second"]
    found = {judge: dpg_bench.compare(a, b, judge=judge) for judge in a.judges}
    for judge, one in found.items():
        told = one.to_dict()
        assert (told["base"]["judge"], told["other"]["judge"]) == (judge, judge)
        difference = dpg_bench.Run.open(b).summary(judge).score - a.summary(judge).score
        assert one.difference == pytest.approx(difference, abs=1e-9)
        assert told == json.loads(command("compare", runs / "a", b, "--judge", judge, "--json").stdout)[0]
        outcome = dpg_bench.check(b, a, judge=judge, max_drop=50)
        assert outcome.outcome == "passed" and outcome.to_dict()["figures"][0]["run"] == pytest.approx(dpg_bench.Run.open(b).summary(judge).score)
    assert found["first"].difference != 0 == found["second"].difference
    # A baseline has one judge.
    assert dpg_bench.compare(runs / "baseline.json", b, judge="first").difference == found["first"].difference
    assert dpg_bench.check(b, runs / "baseline.json", judge="first", max_drop=50).passed


def calls(runs, **more):
    a = dpg_bench.Run.open(runs / "a")
    yield lambda: dpg_bench.compare(a, runs / "b", **more)
    yield lambda: dpg_bench.check(a, runs / "b", **more)
    yield lambda: a.summary(**more)
    yield lambda: a.answers(**more)
    yield lambda: dpg_bench.report([a], runs / "report", **more)


def test_which_judge_must_be_said(runs):
    for call in calls(runs):
        with pytest.raises(ValueError, match=r"/[ab]: there are answers of first, second; choose one with judge=$"):
            call()


def test_a_judge_that_is_not_there_is_refused(runs):
    for call in calls(runs, judge="secund"):
        with pytest.raises(ValueError, match=r"/[ab] has no answers of `secund` .did you mean `second`.*; there are answers of first, second$"):
            call()
    refused = command("compare", runs / "a", runs / "b", "--judge", "secund", status=2)
    assert "has no answers of `secund`" in refused.stderr


@pytest.mark.parametrize("max_drop", [math.nan, -0.5, 100.0, math.inf, -math.inf])
def test_a_drop_that_means_nothing_is_refused(runs, max_drop):
    with pytest.raises(ValueError, match=r"^max_drop \S+ is no number of points from 0 to below 100$"):
        dpg_bench.check(runs / "a", runs / "b", judge="first", max_drop=max_drop)
    refused = command("check", runs / "a", "--baseline", runs / "b", "--judge", "first", f"--max-drop={max_drop}", status=2)
    assert "is no number of points from 0 to below 100" in refused.stderr


@pytest.mark.parametrize("alpha", [math.nan, -0.05, 0.0, 0.5, 1.0, 5.0, math.inf])
def test_a_level_that_means_nothing_is_refused(runs, alpha):
    with pytest.raises(ValueError, match=r"^alpha \S+ is no probability between 0 and 0.5$"):
        dpg_bench.check(runs / "a", runs / "b", judge="first", alpha=alpha)
    refused = command("check", runs / "a", "--baseline", runs / "b", "--judge", "first", f"--alpha={alpha}", status=2)
    assert "is no probability between 0 and 0.5" in refused.stderr


def test_a_gate_that_could_fail_nothing_is_refused(runs):
    with pytest.raises(ValueError, match="^alpha 0.00001 is too small .numbers checked: 1.: no p could be below it"):
        dpg_bench.check(runs / "a", runs / "b", judge="first", alpha=0.00001)
    command("check", runs / "a", "--baseline", runs / "b", "--judge", "first", "--alpha", "0.00001", status=2)
    with pytest.raises(ValueError, match="there is no category `attribut` .did you mean `attribute`"):
        dpg_bench.check(runs / "a", runs / "b", judge="first", categories=["attribut"])
