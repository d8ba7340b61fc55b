"""The tables and figures of the paper: their recipes, what is planned from them, and what is written."""

import csv
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from reappear.cli.app import main
from reappear.cli.paper import prepare
from reappear.core import InputError, SettingsError, WorkspaceError
from reappear.pipeline.paper import Request, commands_of, paper, plan, read_recipe, split_command
from reappear.pipeline.record import Outcome, read_record, run_step
from tests.data.trees import draw

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "paper"
RECIPES = sorted([*FOLDER.glob("table*.yaml"), *FOLDER.glob("figure*.yaml")])
NAMES = ["figure4", "figure5", "figure6", "figure7", "table1", "table2", "table3", "table4", "table6"]


def test_every_table_and_figure_has_a_recipe() -> None:
    assert [path.stem for path in RECIPES] == NAMES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_command_of_a_recipe_is_accepted_by_the_command_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipe = read_recipe(path.relative_to(ROOT))
    for scale in ("full", "tiny"):
        arms = plan(recipe, Request(path.relative_to(ROOT), Path("out"), scale), dry=True)
        assert [arm.row for arm in arms] == list(recipe.at(scale).rows or recipe.rows)
        for words in commands_of(arms):
            prepare(words)
            for file in (word for word in words if word.startswith("recipes/")):
                assert Path(file).is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_header_of_a_recipe_has_its_commands_and_what_is_expected(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "Expected result" in text
    header = re.sub(r"\n# {5,}", " ", text[: text.index("\nbase:")])
    commands = [shlex.split(line) for line in re.findall(r"^#   (reappear paper .*)$", header, re.MULTILINE)]
    assert len(commands) == 2
    assert [command[2] for command in commands] == [f"recipes/paper/{path.stem}.yaml"] * 2
    assert commands[1][5:7] == ["--scale", "tiny"]
    given = {text.partition("=")[0] for text in commands[0] if "=" in text}
    recipe = read_recipe(path)
    with pytest.raises(SettingsError) as error:
        plan(recipe, Request(path, Path("out")))
    assert set(re.findall(r"(\w+) \(", str(error.value).split("give --data")[0])) == given


def test_expected_numbers_are_those_of_the_zoo() -> None:
    from reappear.models.zoo import ZOO

    rows = read_recipe(FOLDER / "table3.yaml").rows
    for name, row in ZOO.items():
        assert tuple(rows[name]["paper"]) == (*row.market1501, *row.msmt17)
    assert len(rows) == len(ZOO) + 6


@pytest.mark.parametrize("which", ["table2", "table6"])
def test_expected_numbers_without_labels_are_those_of_the_recipes_of_cluster_contrast(which: str) -> None:
    rows = read_recipe(FOLDER / f"{which}.yaml").rows
    for number, name in enumerate(("market1501", "msmt17")):
        text = (ROOT / "recipes" / "finetune" / name / "cluster_contrast.yaml").read_text(encoding="utf-8")
        for backbone, *published in re.findall(r"#   (\w+) +([\d.]+) / ([\d.]+), ([\d.]+) / ([\d.]+)", text):
            for row in rows.values():
                if row.get("backbone") == backbone and "zoo" in row.get("start", ""):
                    mine = row["paper"][4 + 2 * number : 6 + 2 * number] + row["paper"][2 * number : 2 + 2 * number]
                    assert mine == [float(value) for value in published]


# A recipe of three rows whose commands are no real steps: `Steps` below runs them.
PLAIN: dict[str, Any] = {
    "title": "A table",
    "columns": {"mAP": "{out}/evaluations/{row} mean_ap", "time": "{out}/evaluations/{row} seconds"},
    "rows": {
        "one": {"label": "first", "paper": [50.0, None], "value": "0.25"},
        "two": {"paper": [60.0, None], "value": "0.5", "more": ["--flip", "yes"]},
        "three": {"paper": [None, None], "value": "{row}"},
    },
    "full": {"data": {"images": "a folder"}, "commands": ["reappear evaluate {images} --out {out} --name {row}"]},
    "tiny": {
        "setup": ["reappear synthesize --out {out}/world"],
        "commands": ["reappear evaluate {out}/world --out {out} --name {row} --value {value}"],
    },
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "plain.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}, sort_keys=False), encoding="utf-8")
    return path


class Steps:
    """In place of the command line: each command is a small recorded step, and is counted."""

    def __init__(self, fail: str = "", stop: str = "") -> None:
        self.fail, self.stop = fail, stop
        self.ran: list[str] = []

    def __call__(self, words: tuple[str, ...]) -> Callable[[], None]:
        _, step, arguments = split_command(words)
        options = dict(itertools.pairwise(arguments))
        folder = Path(options["--out"])
        folder = folder / "evaluations" / options["--name"] if step == "evaluate" else folder

        def work(staging: Path) -> Outcome:
            self.ran.append(folder.name)
            if folder.name == self.fail:
                raise InputError(f"{folder.name} cannot be done")
            return Outcome({"mean_ap": float(options.get("--value", 0))})

        def run() -> None:
            if folder.name == self.stop:
                raise KeyboardInterrupt
            run_step(folder, step=step, settings={"of": options.get("--value")}, inputs={}, work=work)

        return run


def request(path: Path, out: Path, **more: Any) -> Request:
    return Request(path, out, "tiny", **more)


def test_table_has_our_values_beside_the_papers(tmp_path: Path) -> None:
    path = write(tmp_path, rows={**PLAIN["rows"], "three": {"paper": [None, None], "value": "1"}})
    page, missing = paper(request(path, tmp_path / "out", seeds=2, seed=3), Steps())
    assert not missing
    assert page == tmp_path / "out" / "tiny" / "plain.md"
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert rows[0][1:] == ["mAP", "paper", "time", "paper |"]
    assert [row[:3] for row in rows[2:]] == [
        ["| first", "25.0 ± 0.0", "50"],
        ["| two", "50.0 ± 0.0", "60"],
        ["| three", "100.0 ± 0.0", "–"],
    ]
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert found["seeds"] == [3, 4]
    assert (
        found["cells"][0] | {"label": "first", "column": "mAP", "values": [25.0, 25.0], "paper": 50}
        == found["cells"][0]
    )
    cells = list(csv.DictReader(page.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    assert [(cell["row"], cell["column"]) for cell in cells[:2]] == [("first", "mAP"), ("first", "time")]
    assert float(cells[0]["mean"]) == 25.0


def test_rows_that_fail_are_listed_and_the_others_go_on(tmp_path: Path) -> None:
    path = write(tmp_path)
    page, missing = paper(request(path, tmp_path / "out"), Steps(fail="one"))
    text = page.read_text(encoding="utf-8")
    assert missing == 2
    assert "first, seed 0: one cannot be done" in text
    assert "three, seed 0: unexpected ValueError" in text  # its value is no number
    assert "| two | 50.0 | 60 |" in text
    steps = Steps()
    paper(request(path, tmp_path / "out", rows=["one", "two"]), steps)
    assert steps.ran == ["one"]


def test_a_failed_command_that_rows_share_is_run_once(tmp_path: Path) -> None:
    steps = Steps(fail="world")
    page, missing = paper(request(write(tmp_path), tmp_path / "out"), steps)
    assert missing == 3
    assert steps.ran == ["world"]
    assert page.read_text(encoding="utf-8").count("world cannot be done") == 3


def test_stopped_between_rows_it_goes_on_and_changes_nothing_finished(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        paper(request(path, out, rows=["one", "two"]), Steps(stop="two"))
    record = out / "tiny" / "seed0" / "evaluations" / "one" / "record.json"
    before = record.stat().st_mtime_ns
    steps = Steps()
    page, missing = paper(request(path, out, rows=["one", "two"]), steps)
    assert not missing
    assert steps.ran == ["two"]
    assert record.stat().st_mtime_ns == before
    again = Steps()
    paper(request(path, out, rows=["one", "two"]), again)
    assert again.ran == []
    assert "| two | 50.0 | 60 |" in page.read_text(encoding="utf-8")


def test_half_made_folder_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    path, mine = write(tmp_path), tmp_path / "out" / "tiny" / "seed0" / "evaluations" / "two"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine", encoding="utf-8")
    page, missing = paper(request(path, tmp_path / "out", rows=["one", "two"]), Steps())
    assert missing == 1
    assert str(mine) in page.read_text(encoding="utf-8")
    assert [file.name for file in mine.iterdir()] == ["notes.txt"]


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / "plain.md").write_text("mine", encoding="utf-8")
    steps = Steps()
    with pytest.raises(WorkspaceError, match=r"plain\.md"):
        paper(request(path, tmp_path / "out"), steps)
    assert steps.ran == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": {"one": {"paper": [1.0]}}}, "rows.one.paper"),
        ({"rows": {"one": {"paper": [1.0, "much"]}}}, "rows.one.paper"),
        ({"rows": {"one": {"paper": [1.0, None], "seed": 3}}}, "rows.one.seed"),
        ({"rows": {"../one": {"paper": [1.0, None]}}}, "rows"),
        ({"columns": {"mAP": "{out}"}}, "columns"),
        ({"columns": {"mAP": "{out} area"}}, "columns"),
        ({"tiny": {"rows": ["four"]}}, "four"),
        ({"tiny": {"command": []}}, "tiny.command"),
        ({"figure": {"chart": "pie"}}, "figure.chart"),
        ({"figure": {"chart": "lines", "x": "people"}}, "rows.one.people"),
        ({"titel": "A table"}, "titel"),
    ],
)
def test_recipe_that_is_wrong_is_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(SettingsError, match=re.escape(named)) as error:
        read_recipe(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("reappear evaluate {nothing} --out {out}", "nothing"),
        ("reappear evaluate {loop} --out {out}", "loop"),
        ("rm -r {out}", "rm"),
        ("reappear paper {out} --out {out}", "paper"),
        ("torchrun --nproc-per-node 0 -m reappear pretrain {out}", "'0'"),
        ("torchrun --nproc-per-node 2 -m pip list", "pip"),
        ("reappear evaluate {out} --out {out} --no-such-option 1", "no-such-option"),
        ("reappear evaluate {out} --out {out} --protocol best", "protocol"),
        ("reappear evaluate {out}", "--out"),
        ("reappear pretrain {out} --config {recipes}/nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_command_that_is_wrong_is_refused_before_anything_runs(line: str, named: str, tmp_path: Path) -> None:
    row = {"paper": [None, None], "loop": "{loop}"}
    path = write(tmp_path, rows={"one": row}, tiny={"setup": ["reappear synthesize --out {out}/w"], "commands": [line]})
    with pytest.raises(SettingsError, match=re.escape(named)):
        paper(request(path, tmp_path / "out"), prepare)
    assert not (tmp_path / "out").exists()


def test_values_stay_one_word_of_a_command_and_lists_become_several(tmp_path: Path) -> None:
    line = 'reappear evaluate {images} --name "{row} {value}" {more}'
    path = write(tmp_path, full={"data": {"images": "a folder"}, "rows": ["two"], "commands": [line]})
    spaced = tmp_path / "my {images}; rm -r"
    spaced.mkdir()
    found = plan(read_recipe(path), Request(path, tmp_path, data={"images": str(spaced)}))
    assert found[0].commands == (("reappear", "evaluate", str(spaced), "--name", "two 0.5", "--flip", "yes"),)


def reappear(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["paper", *map(str, arguments)])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scale", "huge"], "huge"),
        (["--data", "images"], "NAME=PATH"),
        (["--data", "pictures=."], "pictures"),
        (["--data", "images=nowhere"], "nowhere"),
        ([], "images (a folder)"),
        (["--row", "four"], "four"),
        (["--scale", "tiny", "--data", "images=."], "images"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_wrong_usage_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = reappear(capsys, write(tmp_path), "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert not out
    assert named in err
    assert not (tmp_path / "out").exists()


def test_recipe_that_is_missing_is_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = reappear(capsys, tmp_path / "table9.yaml", "--out", tmp_path / "out")
    assert code == 2
    assert "table9.yaml" in err


def test_dry_run_prints_what_full_scale_would_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = FOLDER / "figure7.yaml"
    code, out, _ = reappear(capsys, recipe, "--out", "my out", "--dry-run", "--gpus", 4, "--data", "cion_al=/d a")
    assert code == 0
    lines = [tuple(shlex.split(line)) for line in out.splitlines()]
    assert [words[0] for words in lines] == ["reappear", *["torchrun"] * 4]
    assert lines[0] == ("reappear", "ingest", "/d a", "--layout", "cion_al", "--out", "my out/full/cion_al")
    assert lines[1][2] == "4"
    for words in lines:
        prepare(words)


def real(tmp_path: Path, images: Path, name: str, **changes: Any) -> Path:
    """A recipe of the paper on images that are there, with two steps of training."""
    shutil.copytree(FOLDER / "tiny", tmp_path / "paper" / "tiny")
    recipe = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    few = " --steps 2 --images-per-step 24"
    commands = [line.strip() + few * ("reappear pretrain" in line) for line in recipe["tiny"]["commands"]]
    setup = [
        f"reappear ingest {images} --layout market1501 --out {{shared}}/pretraining --workers 1",
        "reappear embed {shared}/pretraining --name color",
        "reappear correlate {shared}/pretraining --embeddings color --linking closure --resamples 0 --name cion",
    ]
    tiny = {**recipe["tiny"], "setup": setup, "commands": commands, **changes}
    path = tmp_path / "paper" / f"{name}.yaml"
    base = {**recipe, "base": str(FOLDER / "base.yaml"), "tiny": tiny}
    path.write_text(yaml.safe_dump(base, sort_keys=False), encoding="utf-8")
    return path


SCORES = {
    "table4": [("{init}", "market1501", "{name}"), ("{init}", "msmt17", "{name}")],
    "figure4": [("{init}", "market1501", "pretrained-{row}")],
}


@pytest.mark.parametrize("name", SCORES)
def test_a_table_and_a_figure_from_images(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    images = tmp_path / "images"
    for person, camera, split in product(range(1, 7), (1, 2), ("bounding_box_train", "query", "bounding_box_test")):
        draw(images / split / f"{person:04d}_c{camera}s1_000001_00.jpg", 10 * person + camera, size=(32, 64))
    score = [
        f"reappear evaluate {images} --model {model} --out {{out}}/{out} --name {called} --bootstrap 1"
        for model, out, called in SCORES[name]
    ]
    path = real(tmp_path, images, name, rows=["cion"], score=score)
    code, out, err = reappear(capsys, path, "--out", tmp_path / "out", "--scale", "tiny", "--json", "--quiet")
    assert code == 0, err
    found = json.loads(out)
    assert {cell["row"] for cell in found["cells"] if cell["values"]} == {"cion"}
    _, place, called = SCORES[name][-1]
    evaluation = tmp_path / "out/tiny/seed0" / place / "evaluations" / called.format(name="cion", row="cion")
    cell = [cell for cell in found["cells"] if cell["row"] == "cion"][-1]
    assert cell["values"] == [100 * read_record(evaluation).counts["rank_1" if name == "table4" else "mean_ap"]]
    assert cell["paper"] == (89.8 if name == "table4" else None)
    if name == "figure4":
        svg = (tmp_path / "out/tiny/figure4.svg").read_text(encoding="utf-8")
        assert "CION" in svg
        assert f"![{found['title']}](figure4.svg)" in (tmp_path / "out/tiny/figure4.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("chart", ["bars", "lines"])
def test_figures_have_the_rows_and_columns(chart: str, tmp_path: Path) -> None:
    rows = {
        "one": {"label": "first", "paper": [50.0, None], "value": "1", "x": 1},
        "two": {"paper": [None, 2.0], "value": "2", "x": 3},
    }
    figure = {"chart": chart, **({"x": "x", "x_label": "people"} if chart == "lines" else {})}
    page, _ = paper(request(write(tmp_path, rows=rows, figure=figure), tmp_path / "out", seeds=2), Steps())
    svg = page.with_suffix(".svg").read_text(encoding="utf-8")
    for text in ("mAP", "time", *(["first", "two"] if chart == "bars" else ["people", "paper"])):
        assert f">{text}" in svg or text in svg


@pytest.mark.parametrize(("name", "made"), [("figure7", ["crops"]), ("figure5", ["crops", "embeddings", "identities"])])
def test_full_scale_reads_the_papers_data(name: str, made: list[str], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    annotations = []
    for person in range(4):
        for frame in range(3):
            for file in (
                f"cion/sec0/{person}_{frame}.jpg",
                f"lup/nation/city/v{person % 2}/{person:06d}_{frame:07d}_00.jpg",
            ):
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / file), draw.integers(0, 255, (128, 64, 3), np.uint8))
            annotations.append({"file_path": f"sec0/{person}_{frame}.jpg", "id": person})
    (tmp_path / "cion" / "cional_annos.json").write_text(json.dumps(annotations), encoding="utf-8")
    data = {"cion_al": "cion", "lupersonnl": "lup", "extractor": "color"}
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    known = {key: value for key, value in data.items() if key in recipe.full.data}
    known |= {key: str(tmp_path / value) for key, value in known.items() if key != "extractor"}
    arms = plan(recipe, Request(FOLDER / f"{name}.yaml", tmp_path / "out", data=known), dry=True)
    for words in commands_of(arms):
        if words[1] in ("ingest", "embed", "correlate"):
            prepare((*words, "--quiet"))()
    work = tmp_path / "out" / "full" / ("cion_al" if name == "figure7" else "lupersonnl")
    assert [step for step in ("crops", "embeddings", "identities") if (work / step).is_dir()] == made
    assert read_record(work / "crops").counts["crops"] == 12


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_fills_its_table_or_figure_at_scale_tiny(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.getbasetemp() / "paper"  # shared, as what they need is the same
    code, shown, err = reappear(capsys, FOLDER / f"{name}.yaml", "--out", out, "--scale", "tiny", "--seed", 7, "--json")
    assert code == 0, err
    found = json.loads(shown)
    run = read_recipe(FOLDER / f"{name}.yaml").tiny.rows
    for cell in found["cells"]:
        assert len(cell["values"]) == (not run or cell["row"] in run)
    assert (out / "tiny" / f"{name}.svg").exists() == name.startswith("figure")
