"""DPG-Bench: images of a text-to-image model, questions about them, a judge's answers, scores."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _native
from ._native import (
    Answer,
    Answers,
    Benchmark,
    Check,
    Comparison,
    DpgBenchError,
    Item,
    Judge,
    Question,
    Run,
    Summary,
    __version__,
    check,
    compare,
    report,
)

__all__ = [
    "Answer",
    "Answers",
    "Benchmark",
    "Check",
    "Comparison",
    "DpgBenchError",
    "Item",
    "Judge",
    "Question",
    "Run",
    "Summary",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "report",
]


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> Judge:
    """The judge that was named last stays in memory: the next call costs no loading."""
    return Judge(name)


def evaluate(
    images: Mapping[str, Any] | Iterable[tuple[str, Any]] | Callable[[str, int], Any],
    *,
    benchmark: Benchmark | str | os.PathLike[str] = "dpg",
    judge: Judge | str = "mplug",
    out: str | os.PathLike[str] | None = None,
    protocol: str = "corrected",
    images_per_item: int | None = None,
    model: str | None = None,
    seed: int = 0,
    seed_mode: str = "hashed",
    allow_incomplete: bool = False,
) -> Summary:
    """Judges and scores ``images``.

    Images are a dict or an iterable of item id and images, or a function ``prompt, seed -> image`` that is called for every
    image of every item. An image is one of Pillow, or an array or tensor of the shape (height, width, 3) or (3, height, width),
    on any device, with bytes from 0 to 255 or floats from 0 to 1. Several of an item are a list or an array of four dimensions.

    The run with images, answers and scores is kept in the folder ``out``; the same call goes on where an earlier one stopped.
    Without it the run lies in a temporary folder that lives as long as the summary.

    ``images_per_item`` is 4 for a function, else as many as the first item has. ``model`` is its name in tables. ``seed`` and
    ``seed_mode`` ("hashed" or "sequential") are those of ``dpg-bench run``. Where images or answers are missing there is no score
    unless ``allow_incomplete`` asks for it.

    An exception of the function or the iterable comes out as it is; ``ValueError`` says what of the arguments or images is
    wrong, ``DpgBenchError`` what else could not be done. In each case what is finished is kept in ``out``.
    """
    if not isinstance(benchmark, Benchmark):
        benchmark = Benchmark.load(benchmark)
    if not isinstance(judge, Judge):
        judge = _loaded(judge)
    return _native.evaluate(
        images,
        benchmark,
        judge,
        out=out,
        protocol=protocol,
        images_per_item=images_per_item,
        model=model,
        seed=seed,
        seed_mode=seed_mode,
        allow_incomplete=allow_incomplete,
    )
