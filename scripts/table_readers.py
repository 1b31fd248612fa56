"""What Python's readers can do with RUN/scores/<judge>.parquet: each line names a reader and what failed.

Run it once in each environment whose readers are in question (docs/measurements/readers.md):
    python scripts/table_readers.py RUN/scores/mplug.parquet
"""

import importlib
import sys
import tempfile
from pathlib import Path


def of_pyarrow(path):
    import pyarrow
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    assert table.schema.field("answer").type == pyarrow.large_string(), table.schema
    item = table.column("item")[0]
    rows = table.filter(pc.equal(table.column("item"), item))
    assert 0 < rows.num_rows <= table.num_rows
    yield "filter", rows.num_rows
    assert pq.read_table(path, filters=[("item", "=", item.as_py())]).num_rows == rows.num_rows
    yield "read with a filter", rows.num_rows
    order = table.sort_by([("item", "ascending"), ("image", "ascending"), ("question", "descending")])
    assert order.column("item").to_pylist() == sorted(table.column("item").to_pylist())
    yield "sort", order.num_rows
    counts = table.group_by("item").aggregate([("question", "count")])
    yield "group", counts.num_rows
    joined = table.join(counts, keys="item")
    assert joined.num_rows == table.num_rows
    yield "join", joined.num_rows
    with tempfile.TemporaryDirectory() as folder:
        pyarrow.csv.write_csv(table, Path(folder) / "t.csv")
        pq.write_table(table, Path(folder) / "t.parquet")
        assert pq.read_table(Path(folder) / "t.parquet").equals(table)
    yield "export", table.num_rows


def of_pandas(path):
    import pandas

    frame = pandas.read_parquet(path)
    item = frame["item"].iloc[0]
    rows = frame[frame["item"] == item]
    assert 0 < len(rows) <= len(frame)
    yield "filter", len(rows)
    assert len(pandas.read_parquet(path, filters=[("item", "=", item)])) == len(rows)
    yield "read with a filter", len(rows)
    yield "sort", len(frame.sort_values(["item", "question"]))
    counts = frame.groupby("item").size().rename("n").reset_index()
    yield "group", len(counts)
    assert len(frame.merge(counts, on="item")) == len(frame)
    yield "join", len(frame)
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "t.csv")
        frame.to_parquet(Path(folder) / "t.parquet")
    yield "export", len(frame)


def of_polars(path):
    import polars

    frame = polars.read_parquet(path)
    item = frame["item"][0]
    rows = frame.filter(polars.col("item") == item)
    yield "filter", rows.height
    assert polars.scan_parquet(path).filter(polars.col("item") == item).collect().equals(rows)
    yield "read with a filter", rows.height
    yield "sort", frame.sort("item", "question").height
    counts = frame.group_by("item").len()
    yield "group", counts.height
    assert frame.join(counts, on="item").height == frame.height
    yield "join", frame.height
    with tempfile.TemporaryDirectory() as folder:
        frame.write_csv(Path(folder) / "t.csv")
        frame.write_parquet(Path(folder) / "t.parquet")
    yield "export", frame.height


def of_duckdb(path):
    import duckdb

    table = f"read_parquet('{path}')"
    one = lambda query: duckdb.sql(query).fetchall()[0][0]
    count, item = one(f"select count(*) from {table}"), one(f"select item from {table} limit 1")
    name = item.replace("'", "''")
    rows = one(f"select count(*) from {table} where item = '{name}'")
    assert 0 < rows <= count
    yield "filter", rows
    yield "read with a filter", rows
    yield "sort", len(duckdb.sql(f"select item from {table} order by item, question").fetchall())
    yield "group", one(f"select count(*) from (select item from {table} group by item)")
    both = one(f"select count(*) from {table} join (select item, count(*) from {table} group by item) using (item)")
    assert both == count
    yield "join", both
    with tempfile.TemporaryDirectory() as folder:
        duckdb.sql(f"copy (select * from {table}) to '{folder}/t.csv'")
        duckdb.sql(f"copy (select * from {table}) to '{folder}/t.parquet'")
    yield "export", count


def main():
    path = sys.argv[1]
    failed = False
    for name, reader in [("pyarrow", of_pyarrow), ("pandas", of_pandas), ("polars", of_polars), ("duckdb", of_duckdb)]:
        try:
            version = importlib.import_module(name).__version__
        except ImportError:
            continue
        done = []
        try:
            for step, _ in reader(path):
                done.append(step)
            print(f"{name} {version}: {', '.join(done)}")
        except Exception as error:
            failed = True
            after = f"after {done[-1]}" if done else "at once"
            print(f"{name} {version}: FAILED {after}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
    sys.exit(failed)


main()
