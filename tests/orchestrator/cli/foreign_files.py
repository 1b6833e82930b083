"""Files as people have them, all with one law planted: y = 0.05 + 4 x^-0.3 against one of its inputs.

SHAPES: name -> (function that writes one into a folder and returns the words of a command, the input here).
MANGLED: name -> (the bytes of a file, and the options it is fitted with).
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd

EXPONENT = 0.3
SIZES = np.round(np.geomspace(1e4, 3e8, 16)).astype(int)


def measured(x, scale=4.0, seed=0):
    """The planted law with 0.2 % noise."""
    luck = np.random.default_rng(seed).normal(size=np.shape(x))
    return (0.05 + scale * np.asarray(x, dtype=float) ** -EXPONENT) * np.exp(0.002 * luck)


LOSS = measured(SIZES)


Rows = list[tuple[object, ...]]


def lines(*rows, end="\n"):
    return end.join(rows) + end


def table(rows, delimiter=",", end="\n"):
    return lines(*(delimiter.join(map(str, row)) for row in rows), end=end)


def german(value, digits=6):
    """1234567.891 as 1.234.567,891000."""
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


def text(content, name="lab.csv", encoding="utf-8", options=()):
    """A writer of one file."""

    def write(folder):
        (folder / name).write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return [name, *options]

    return write


def pairs(size=str, loss=str):
    return [(size(n), loss(y)) for n, y in zip(SIZES, LOSS, strict=True)]


def wandb_runs():
    head = ["Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "_step", "_timestamp"]
    rows: Rows = [(*head, "lr", "num_params", "eval/loss", "train/loss")]
    for k, (n, y) in enumerate(zip(SIZES, LOSS, strict=True)):
        rows.append(
            (f"glad-sky-{k}", "finished", "-", "me", "", "2026-01-02", 90 + k, 1000, 1.7e9 + k, 1e-3, n, y, 0.9 * y)
        )
    rows.append(("sad-sea-99", "crashed", "-", "me", "", "2026-01-02", 3, 10, 1.7e9, 1e-3, 77, "", ""))
    return lines(*(",".join(f'"{cell}"' for cell in row) for row in rows))


def wandb_chart():
    runs = [f"mlp N={n}" for n in SIZES]
    head = ["Step", *(f"{run} - eval/loss{end}" for run in runs for end in ("", "__MIN", "__MAX"))]
    rows: Rows = [tuple(head)]
    for step, above in ((100, 3.0), (200, 2.0), (300, 1.0)):
        rows.append((step, *(f"{above * y}" for y in LOSS for _ in range(3))))
    return lines(*(",".join(f'"{cell}"' for cell in row) for row in rows))


def wandb_history():
    rows: Rows = [("run", "_step", "_runtime", "n_params", "val_loss")]
    for k, (n, y) in enumerate(zip(SIZES, LOSS, strict=True)):
        rows += [(f"run-{k}", step, step / 10, n, y * (1 + 100 / step)) for step in (10, 100, 10**9)]
    return table(rows)


def mlflow():
    rows: Rows = [
        ("run_id", "experiment_id", "status", "start_time", "metrics.test_loss", "params.n_params", "params.lr")
    ]
    for k, (n, y) in enumerate(zip(SIZES, LOSS, strict=True)):
        rows.append((f"{k:032x}", 0, "FINISHED", "2026-01-02 03:04:05.678000+00:00", y, n, "0.001"))
    rows.append((f"{99:032x}", 0, "FAILED", "2026-01-02 03:04:05.678000+00:00", "", 77, "0.001"))
    return table(rows)


def tensorboard(seed=0):
    curve = zip(SIZES, measured(SIZES, seed=seed), strict=True)
    return table([("Wall time", "Step", "Value"), *((1.7e9 + k, n, y) for k, (n, y) in enumerate(curve))])


def tensorboard_folder(folder):
    (folder / "curves").mkdir()
    for seed, run in enumerate(("one", "two")):
        (folder / "curves" / f"run-{run}-tag-loss.csv").write_text(tensorboard(seed))
    return ["curves"]


def families(folder):
    rows: Rows = [("model", "params", "loss")]
    for name, scale in (("a", 4.0), ("b", 8.0)):
        rows += [(name, n, y) for n, y in zip(SIZES, measured(SIZES, scale), strict=True)]
    (folder / "lab.csv").write_text(table(rows))
    return ["lab.csv", "--by", "model"]


def seeds():
    rows: Rows = [("arch", "seed", "params", "dropout", "top-1 error")]
    for seed in range(3):
        rows += [("mlp", seed, n, 0.1, y) for n, y in zip(SIZES, measured(SIZES, seed=seed), strict=True)]
    return table(rows)


def concatenated():
    rows: Rows = [("", "params", "loss", "loss")]
    whole = [(k, n, y, y) for k, (n, y) in enumerate(zip(SIZES, LOSS, strict=True))]
    return table([*rows, *whole[:8], *rows, *whole[8:]]) + "\n\n"


def with_gaps():
    rows: Rows = [("N", "loss")]
    rows += [*pairs(), ("1e7", "N/A"), ("-", "0.5"), ("2e7", "OOM"), ("3e7", "diverged"), ("", ""), ("0", "1")]
    return table(rows)


def parquet(folder):
    pd.DataFrame({"n_params": SIZES, "loss": LOSS}).to_parquet(folder / "lab.parquet")
    return ["lab.parquet"]


def excel(folder):
    frame = pd.DataFrame({"Parameters": SIZES, "Test Loss": LOSS})
    frame.to_excel(folder / "lab.xlsx", startrow=2, index=False)
    return ["lab.xlsx"]


def jsonl():
    return lines(
        *(json.dumps({"config": {"n_params": int(n)}, "loss": y}) for n, y in zip(SIZES, LOSS, strict=True))
    )


def french(n):
    return f"{n:,}".replace(",", "\u00a0")


HEAD = ("params", "loss")
WORDS = (("model", "Größe", "Fehler"),)
SHAPES = {
    "plain": (text(table([HEAD, *pairs()])), "params"),
    "semicolons and decimal commas": (
        text(table([("N", "loss"), *pairs(loss=lambda y: str(y).replace(".", ","))], ";")),
        "params",
    ),
    "thousands of points": (
        text(table([("N", "Test-Loss"), *pairs(lambda n: german(n, 0), german)], ";")),
        "params",
    ),
    "quoted thousands": (text(table([HEAD, *pairs(lambda n: f'"{n:,}"')])), "params"),
    "spaces and latin-1": (
        text(
            table([("Entraîné", "N", "loss"), *(("réseau", *row) for row in pairs(french))], ";"),
            encoding="latin-1",
        ),
        "params",
    ),
    "apostrophes": (text(table([HEAD, *pairs(lambda n: f"{n:,}".replace(",", "'"))], "\t"), "lab.tsv"), "params"),
    "utf-16 with tabs": (text(table([HEAD, *pairs()], "\t"), "lab.txt", "utf-16"), "params"),
    "utf-16 without a mark": (text(table([HEAD, *pairs()], "\t"), "lab.txt", "utf-16-le"), "params"),
    "byte order mark": (text(table([HEAD, *pairs()]), encoding="utf-8-sig"), "params"),
    "Excel's first line": (text("sep=;\r\n" + table([HEAD, *pairs()], ";", "\r\n")), "params"),
    "carriage returns": (text(table([HEAD, *pairs()], end="\r")), "params"),
    "comments": (text("# of last week\n# by us\n\n" + table([HEAD, *pairs()]) + "# the end\n"), "params"),
    "header in a comment": (text("# N loss\n" + table(pairs(), " ")), "params"),
    "preamble": (
        text(
            "Exported by Sheets\non 2026-01-02\n\n"
            + table([("id", *HEAD), *((f"r{k}", *row) for k, row in enumerate(pairs()))])
        ),
        "params",
    ),
    "percent": (text(table([("tokens", "error"), *pairs(loss=lambda y: f"{100 * y:.4f}%")])), "examples"),
    "accuracy": (text(table([("samples seen", "val_acc"), *pairs(loss=lambda y: 1 - y)])), "examples"),
    "accuracy in percent": (
        text(table([("Samples", "Top-1 Accuracy (%)"), *pairs(loss=lambda y: 100 - 100 * y)], ";")),
        "examples",
    ),
    "units in cells": (
        text(table([("model", "size", "loss"), *(("mlp", f"{n / 1e6:.6f}M", y) for n, y in pairs(int))])),
        "params",
    ),
    "units in headings": (
        text(table([("tokens (B)", "loss [nats]"), *pairs(lambda n: n / 1e9)])),
        "examples",
    ),
    "powers of ten": (text(table([("compute", "loss"), *pairs(lambda n: f"{n / 1e6:.9f}\u00d710^6")])), "flops"),
    "with deviations": (text(table([HEAD, *pairs(loss=lambda y: f"~{y:.6f} ± 0.01")], ";")), "params"),
    "aligned": (text(pd.DataFrame({"params": SIZES, "loss": LOSS}).to_string()), "params"),
    "Markdown": (
        text(table([("", *HEAD, ""), ("", "---", ":--", ""), *(("", *r, "") for r in pairs())], "|")),
        "params",
    ),
    "row names of R": (
        text(table([('"N"', '"loss"'), *((f'"r{k}"', *row) for k, row in enumerate(pairs()))], " ")),
        "params",
    ),
    "concatenated with an index": (text(concatenated()), "params"),
    "gaps and texts": (text(with_gaps()), "params"),
    "gzip": (text(gzip.compress(table([HEAD, *pairs()]).encode()), "lab.csv.gz"), "params"),
    "JSON lines": (text(jsonl(), "lab.jsonl"), "params"),
    "Parquet": (parquet, "params"),
    "Excel": (excel, "params"),
    "W&B runs": (text(wandb_runs()), "params"),
    "W&B chart": (text(wandb_chart()), "params"),
    "W&B history": (text(wandb_history()), "params"),
    "MLflow": (text(mlflow()), "params"),
    "TensorBoard": (text(tensorboard(), "run-a-tag-loss.csv"), "Step"),
    "TensorBoard's files of several runs": (tensorboard_folder, "Step"),
    "seeds": (text(seeds()), "params"),
    "families": (families, "params"),
    "units behind measures": (
        text(table([("Tokens (B)", "Verlust (test loss)", "loss std"), *((n / 1e9, y, 0) for n, y in pairs(int))])),
        "examples",
    ),
    "names of nobody": (
        text(table([("a", "b", "c"), *((n, y, 7) for n, y in pairs())]), options=("--x", "a", "--y", "b")),
        "a",
    ),
    "said by the user": (
        text(table([("a", "b"), *pairs()]), options=("--x", "params=a", "--y", "b")),
        "params",
    ),
}

GOOD = table([HEAD, *pairs()])
MANGLED = {
    "empty": (b"", ()),
    "blank lines": (b"\n\n  \n", ()),
    "one byte order mark": (b"\xef\xbb\xbf", ()),
    "header alone": (b"params,loss\n", ()),
    "one column": (lines("loss", *map(str, LOSS)).encode(), ()),
    "no header": (table(pairs()).encode(), ()),
    "words": (b"dear reader, this is\na letter and no table\nat all\n", ()),
    "zeros": (bytes(4000), ()),
    "noise": (np.random.default_rng(0).bytes(4000), ()),
    "a picture": (b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(400), ()),
    "damaged gzip": (gzip.compress(GOOD.encode())[:40], ()),
    "damaged zip": (b"PK\x03\x04 and no more", ()),
    "damaged Parquet": (b"PAR1 and no more", ()),
    "another database": (b"SQLite format 3\0", ()),
    "half of JSON": (b'[{"params": 1, "loss": 2}, {"par', ()),
    "JSON of a number": (b"[1, 2, 3]", ()),
    "HTML": (b"<!doctype html>\n<html><body>404, not found</body></html>\n", ()),
    "unquoted thousands": (table([HEAD, *pairs(lambda n: f"{n:,}")]).encode(), ()),
    "open quote": (('params,loss\n"1,2\n' + "3,4\n" * 200_000).encode(), ()),
    "no number in y": (table([HEAD, *pairs(loss=lambda _: "n/a")]).encode(), ()),
    "text in y": (table([HEAD, *pairs(loss=lambda y: f"y{y}")]).encode(), ("--y", "loss")),
    "nothing above 0": (table([HEAD, *pairs(loss=lambda y: -y)]).encode(), ()),
    "no such x": (GOOD.encode(), ("--x", "tokens")),
    "no such y": (GOOD.encode(), ("--y", "los")),
    "x that is no role": (GOOD.encode(), ("--x", "size=params")),
    "x twice": (GOOD.encode(), ("--x", "params", "--x", "params")),
    "two inputs of one kind": (
        table(
            [("tokens", "samples", "loss"), ("tokens_seen", "x", "y")][:1] + [(n, n + 1, y) for n, y in pairs(int)]
        )
        .replace("tokens", "tokens_seen")
        .encode(),
        (),
    ),
    "two measures of one kind": (table([("N", "loss_a", "loss_b"), *((n, y, y) for n, y in pairs())]).encode(), ()),
    "several open inputs": (table([("a", "b", "loss"), *((n, 2 * n, y) for n, y in pairs(int))]).encode(), ()),
    "no input": (table([("name", "loss"), *(("r", y) for _, y in pairs())]).encode(), ()),
    "no measure": (table([("params", "tokens"), *pairs()]).encode(), ()),
    "two values of x": (table([HEAD, *[row for row in pairs()[:2] for _ in range(4)]]).encode(), ()),
    "a condition that nothing satisfies": (GOOD.encode(), ("--where", "loss > 99")),
    "a condition that is none": (GOOD.encode(), ("--where", "los <")),
    "no such group": (GOOD.encode(), ("--by", "family")),
    "a stage": (GOOD.encode(), ("--stage", "probe")),
    "every run failed": (table([("state", *HEAD), *(("failed", *row) for row in pairs())]).encode(), ()),
}
