"""The table of answers goes to other libraries as a stream of Arrow's, with the values of the run's Parquet file."""

import ctypes
import gc
import pathlib
import statistics

import pytest
from conftest import image, images_of

import dpg_bench

COLUMNS = {
    "item": "U",
    "image": "I",
    "question": "I",
    "l1": "U",
    "l2": "U",
    "tuple": "U",
    "question_text": "U",
    "answer": "U",
    "raw": "U",
    "yes_probability": "g",
    "failure": "U",
    "seed": "L",
    "raw_reference": "U",
    "verdict_reference": "U",
    "raw_corrected": "U",
    "verdict_corrected": "U",
}


@pytest.fixture(scope="module")
def summaries(tmp_path_factory, demo, scripted):
    """Runs of every kind of value: with seeds, with a missing image, without a probability and with one."""
    part = demo.select(limit=4)
    folder = tmp_path_factory.mktemp("answers")
    seeded = dpg_bench.evaluate(lambda prompt, seed: image(seed % 1000), benchmark=part, judge=scripted, out=folder / "seeded")
    images = images_of(part, 3)
    images.pop(part.items[1].id)
    gaps = dpg_bench.evaluate(images, benchmark=part, judge=scripted, out=folder / "gaps", allow_incomplete=True)
    return {"seeded": seeded, "gaps": gaps}


@pytest.fixture(params=["seeded", "gaps"])
def answers(summaries, request):
    return summaries[request.param].run.answers()


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


class Stream(ctypes.Structure):
    pass


def release(of):
    return ctypes.CFUNCTYPE(None, ctypes.POINTER(of))


# github.com/apache/arrow, format/CDataInterface.rst and CStreamInterface.rst.
Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", release(Schema)),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", release(Array)),
    ("private_data", ctypes.c_void_p),
]
Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Schema))),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(Stream))),
    ("release", release(Stream)),
    ("private_data", ctypes.c_void_p),
]


def values(kind, array):
    """A column's values; None where there is none."""
    assert array.offset == 0
    there, *data = (array.buffers[number] for number in range(array.n_buffers))
    bits = ctypes.string_at(there, (array.length + 7) // 8) if there else None
    is_there = [bits is None or bool(bits[row // 8] >> row % 8 & 1) for row in range(array.length)]
    assert is_there.count(False) == array.null_count
    if kind == "U":
        ends = (ctypes.c_int64 * (array.length + 1)).from_address(data[0])
        texts = ctypes.string_at(data[1], ends[array.length]) if ends[array.length] else b""
        read = [texts[start:end].decode() for start, end in zip(ends, ends[1:])]
    else:
        of = {"I": ctypes.c_uint32, "L": ctypes.c_uint64, "g": ctypes.c_double}[kind]
        read = (of * array.length).from_address(data[0])
    return [value if there else None for value, there in zip(read, is_there)]


def by_hand(answers):
    """The table as a reader takes it that knows Arrow's C interface alone."""
    capsule = answers.__arrow_c_stream__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    stream = Stream.from_address(pointer(capsule, b"arrow_array_stream"))
    schema, array, end = Schema(), Array(), Array()
    assert stream.get_schema(stream, schema) == 0 == stream.get_next(stream, array)
    assert stream.get_next(stream, end) == 0 and not end.release
    assert schema.format == b"+s" and schema.n_children == array.n_children
    told = [schema.children[number].contents for number in range(schema.n_children)]
    kinds = {column.name.decode(): column.format.decode() for column in told}
    columns = (array.children[number].contents for number in range(array.n_children))
    table = {name: values(kind, column) for (name, kind), column in zip(kinds.items(), columns)}
    assert all(len(column) == array.length for column in table.values())
    array.release(array)
    schema.release(schema)
    # The stream itself goes with its capsule.
    return kinds, table


def test_the_stream_is_the_runs_table(summaries, demo):
    part = demo.select(limit=4)
    for name, summary in summaries.items():
        answers = summary.run.answers()
        kinds, table = by_hand(answers)
        assert kinds == COLUMNS
        count = {"seeded": 4, "gaps": 3}[name]
        expected = [(item.id, number, question.id, question.text) for item in part.items for number in range(count) for question in item.questions]
        assert list(zip(table["item"], table["image"], table["question"], table["question_text"])) == expected
        assert len(answers) == len(expected) and repr(answers) == f"<Answers of scripted: {len(expected)} rows>"
        # The score, out of the rows.
        images = {}
        for item, number, verdict in zip(table["item"], table["image"], table["verdict_corrected"]):
            if verdict not in ("missing", None):
                images.setdefault(item, {}).setdefault(number, []).append(100 * (verdict == "yes"))
        items = [statistics.mean(statistics.mean(answers) for answers in of_item.values()) for of_item in images.values()]
        assert statistics.mean(items) == pytest.approx(summary.score, abs=1e-9)
        has_seeds = [seed is not None for seed in table["seed"]]
        assert all(has_seeds) if name == "seeded" else not any(has_seeds)
        missing = [item == part.items[1].id for item in table["item"]]
        assert [answer is None for answer in table["answer"]] == (missing if name == "gaps" else [False] * len(missing))


def test_the_table_outlives_what_it_came_from(demo, scripted):
    part = demo.select(limit=1)
    answers = dpg_bench.evaluate(images_of(part, 1), benchmark=part, judge=scripted).run.answers()
    path = answers.path
    first = by_hand(answers)
    # A stream that nobody takes.
    answers.__arrow_c_stream__()
    assert pathlib.Path(answers).read_bytes().startswith(b"PAR1")
    assert by_hand(answers) == first
    del answers
    gc.collect()
    assert not path.exists()


def test_the_table_needs_no_file(tmp_path, demo, scripted):
    part = demo.select(limit=1)
    run = dpg_bench.evaluate(images_of(part, 1), benchmark=part, judge=scripted, out=tmp_path).run
    before = by_hand(run.answers())
    run.answers().path.unlink()
    answers = run.answers()
    assert by_hand(answers) == before
    with pytest.raises(dpg_bench.DpgBenchError, match="there is no .*scripted.parquet; `dpg-bench score` on the run writes it"):
        answers.path


def test_pyarrow_takes_the_table(answers):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is not tried")
    parquet = pytest.importorskip("pyarrow.parquet")
    compute = pytest.importorskip("pyarrow.compute")
    stored = parquet.read_table(answers.path)
    for table in (answers.to_arrow(), pyarrow.table(answers), pyarrow.RecordBatchReader.from_stream(answers).read_all()):
        assert table.schema.equals(stored.schema) and table.equals(stored)
        table.validate(full=True)
    # What pyarrow has no kernels for where texts are `string_view`.
    yes = table.filter(compute.equal(table["verdict_corrected"], "yes")).sort_by([("question_text", "descending"), ("image", "ascending")])
    assert 0 < len(yes) < len(table) and yes["question_text"].to_pylist() == sorted(yes["question_text"].to_pylist(), reverse=True)
    # Nothing is copied: two tables are the same memory.
    tables = [answers.to_arrow() for _ in range(2)]
    buffers = [[buffer for column in table.columns for buffer in column.chunk(0).buffers() if buffer is not None] for table in tables]
    first, second = ([buffer.address for buffer in of_table] for of_table in buffers)
    assert first == second and len(first) > len(COLUMNS)
    del answers
    gc.collect()
    assert table.equals(stored)


def test_pandas_takes_the_table(answers):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pandas is not tried")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: it is not tried")
    pandas.testing.assert_frame_equal(answers.to_pandas(), pandas.read_parquet(answers.path))


def test_polars_takes_the_table(answers):
    polars = pytest.importorskip("polars", reason="polars is not installed: it is not tried")
    from polars.testing import assert_frame_equal

    stored = polars.read_parquet(answers.path)
    for frame in (answers.to_polars(), polars.DataFrame(answers)):
        assert_frame_equal(frame, stored)


def test_duckdb_takes_the_table(answers):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: it is not tried")
    taken = duckdb.sql("select * from answers")
    stored = duckdb.sql(f"select * from '{answers.path}'")
    assert (taken.columns, taken.types) == (stored.columns, stored.types)
    assert taken.fetchall() == stored.fetchall()
