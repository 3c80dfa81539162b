"""`hf-nar plot` from results files to pictures."""

import json
import re
import sys
import xml.etree.ElementTree as ET

import pytest
from picture_results import (
    benchmark,
    latent_field,
    latent_space,
    quality,
    teacher_quality,
    trace,
    write,
)
from tiny_folders import save_refiners

pytest.importorskip("matplotlib", reason="pictures are an extra")

import matplotlib
from PIL import Image

from hf_nar.cli.main import main

KINDS = ("latency", "iterations", "pareto", "drafts", "latent", "latent-field")
HOSTILE = "<script>&amp; ]]> --> $x^2$ a_b \\frac \x00\x1b \u202e شكرا 谢谢 🐕 \ufffe"


@pytest.fixture
def files(tmp_path):
    ours = write(
        tmp_path / "ours",
        quality=quality(),
        benchmark=benchmark(),
        latent_space=latent_space(),
        latent_field=latent_field(),
    )
    return {"ours": ours, "teacher": write(tmp_path / "teacher", quality=teacher_quality())}


def plot(kind, files, *options):
    chosen = [files["ours"], files["teacher"]] if kind == "iterations" else [files["ours"]]
    return main(["plot", kind, *map(str, chosen), *map(str, options)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_two_files_and_the_same_bytes_each_time(files, kind, tmp_path, capsys):
    assert plot(kind, files) == 0
    svg, png = (files["ours"].parent / f"{kind}.{suffix}" for suffix in ("svg", "png"))
    assert capsys.readouterr().out.split() == [str(svg), str(png)]

    assert plot(kind, files, "--output", tmp_path / "again") == 0

    root = ET.parse(svg).getroot()
    assert root.get("width") == "540pt"
    assert svg.stat().st_size < 150_000
    assert not re.search("<dc:date>|matplotlib.org", svg.read_text("utf-8"))
    with Image.open(png) as picture:
        picture.load()
        assert picture.width == 1440
        assert picture.getpixel((0, 0)) == (255, 255, 255, 255)
        assert set(picture.info) <= {"dpi"}
    assert svg.read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert png.read_bytes() == (tmp_path / "again.png").read_bytes()


def test_settings_of_the_user_change_nothing(files, tmp_path):
    plot("iterations", files, "--output", tmp_path / "a.svg")

    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.grid": True}):
        plot("iterations", files, "--output", tmp_path / "b.svg")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_an_ending_chooses_one_file(files, tmp_path):
    assert plot("latency", files, "--output", tmp_path / "a.png") == 0

    assert [file.name for file in tmp_path.glob("a.*")] == ["a.png"]


def test_changed_tokens_are_in_the_file(files, tmp_path):
    plot("drafts", files, "--output", tmp_path / "a.svg")

    text = (tmp_path / "a.svg").read_text("utf-8")
    assert len(re.findall('id="changed-', text)) == 2
    identifiers = re.findall(' id="([^"]*)"', text)
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_breaks_no_picture(tmp_path, kind, capsys):
    draft = [f"▁{word}" for word in HOSTILE.split(" ")]
    times = benchmark()
    times |= {"environment": {"device": HOSTILE, "threads": 2}, "source": HOSTILE}
    for row in [*times["systems"], *times["rows"]]:
        for key in {"name", "system"} & set(row):
            row[key] = f"{HOSTILE}, {row[key].split(', ')[-1]}".replace("<", row[key][0], 1)
    names = {row["name"] for row in times["systems"]}
    assert len(names) == 4
    ours = quality(target_file=HOSTILE, traces=[trace(source=HOSTILE, drafts=[draft, draft[1:]])])
    space = latent_space(source=HOSTILE, target=HOSTILE)
    field = latent_field(source=HOSTILE, latent_axis=HOSTILE)
    field["paths"][0]["points"][-1]["draft"] = [*draft, "</s>"]
    field["fields"][0]["refiner"] = field["paths"][1]["refinement"] = HOSTILE
    sections = {"latent_space": space, "latent_field": field}
    files = {
        "ours": write(tmp_path / "ours", quality=ours, benchmark=times, **sections),
        "teacher": write(tmp_path / "teacher", quality=teacher_quality(target_file=HOSTILE)),
    }

    name = "a" if kind == "drafts" else "a.svg"
    code = plot(kind, files, "--title", HOSTILE, "--output", tmp_path / name)

    assert code == 0, capsys.readouterr().err
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    if kind == "drafts":
        with Image.open(tmp_path / "a.png") as picture:
            picture.load()


def test_characters_that_no_font_has_are_named_once(files, tmp_path, capsys):
    assert (
        plot("drafts", files, "--title", "\u0378 and \u0378", "--output", tmp_path / "a.svg") == 0
    )

    assert capsys.readouterr().err == "No installed font has \u0378; a box stands for each.\n"


def test_a_point_without_bleu_is_reported(files, capsys):
    plot("pareto", files, "--output", files["ours"].parent / "a.svg")

    expected = "CTranslate2 int8 beam 4 is left out: no results file has its BLEU\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        (
            "latency",
            ["--batch-size", "8", "--scope", "text", "--logarithmic"],
            ["milliseconds for 8 sentences at once, median", "200", "text to text"],
        ),
        (
            "pareto",
            ["--batch-size", "8", "--scope", "model"],
            ["8 sentences at a time, token ids to token ids"],
        ),
        ("iterations", ["--label", "one", "--label", "two"], ["one", "two, beam 4"]),
        ("iterations", ["--metric", "bleu", "--metric", "chrf"], ["BLEU", "chrF2"]),
        ("drafts", ["--sentence", "2", "--title", "Another title"], ["Zwei", "Another title"]),
    ],
)
def test_options_reach_the_picture(tmp_path, kind, options, shown):
    two = quality(traces=[trace(), trace(source="Zwei")])
    for row in two["rows"]:
        row["chrf"] = 2 * row["bleu"]
    files = {
        "ours": write(tmp_path / "ours", quality=two, benchmark=benchmark()),
        "teacher": write(tmp_path / "teacher", quality=teacher_quality()),
    }

    assert plot(kind, files, *options, "--output", tmp_path / "a.svg") == 0

    texts = "\n".join(re.findall("<!-- (.*?) -->", (tmp_path / "a.svg").read_text("utf-8")))
    for text in shown:
        assert re.search(rf"\b{text}\b", texts)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pie", [], "'pie' is not one of"),
        ("drafts", ["--batch-size", "8"], "`--batch-size` is for latency and pareto only"),
        ("latent", ["--label", "x"], "`--label` is for iterations only"),
        ("drafts", ["--metric", "bleu"], "`--metric` is for iterations only"),
        ("iterations", ["--metric", "speed"], "must be one of bleu, chrf"),
        ("iterations", ["--iterations", "2"], "`--iterations` is for latent-field only"),
        ("latent-field", ["--position", "1"], "`--position` is for measuring"),
        ("drafts", ["--output", "a.pdf"], "must end in .svg or .png"),
        ("latency", ["--batch-size", "3"], "has batch sizes [1, 8]"),
        ("drafts", ["--output", "no/such/folder/a"], "No such file or directory"),
    ],
)
def test_a_wrong_call_is_one_clear_sentence(files, kind, options, message, capsys):
    assert plot(kind, files, *options) == 2

    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_missing_section_is_one_clear_sentence(tmp_path, capsys):
    file = write(tmp_path, quality=quality())

    assert main(["plot", "latent", str(file)]) == 2

    assert "`hf-nar landscape` with `--output` writes it" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(files, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert plot("latency", files) == 2

    assert 'pip install "hf-nar[plot]"' in capsys.readouterr().err


def test_a_landscape_is_measured_and_drawn(tiny_folder, tmp_path, capsys):
    file = tmp_path / "results.json"
    sentences = ["--source", "Ein Hund läuft im Schnee.", "--target", "A dog runs in the snow."]
    sizes = ["--iterations", "2", "--resolution", "4"]

    assert main(["landscape", str(tiny_folder), *sentences, *sizes, "--output", str(file)]) == 0

    printed = capsys.readouterr().out
    space = json.loads(file.read_text("utf-8"))["latent_space"]
    assert [len(space["grid_x"]), len(space["log_likelihood"])] == [4, 4]
    assert len(space["points"]) <= 4
    for point in space["points"]:
        assert re.search(rf"{point['label']} .*{point['log_likelihood']:.2f}", printed)
    assert main(["plot", "latent", str(file)]) == 0
    ET.parse(tmp_path / "latent.svg")


def test_a_latent_field_is_measured_drawn_and_drawn_again(tmp_path, tiny_tokenizer, capsys):
    model = save_refiners(tmp_path / "model", tiny_tokenizer, "target")
    picture, text = tmp_path / "a.svg", "Ein Hund läuft im Schnee."
    options = ["--iterations", "2", "--resolution", "3", "--position", "2", "--device", "cpu"]

    code = main(["plot", "latent-field", str(model), text, *options, "--output", str(picture)])

    assert code == 0, capsys.readouterr().err
    assert capsys.readouterr().out.split() == [str(picture), str(tmp_path / "a.json")]
    results = json.loads((tmp_path / "a.json").read_text("utf-8"))["latent_field"]
    assert [len(results["grid_x"]), len(results["paths"][0]["points"])] == [3, 3]
    assert (results["source"], results["position"]) == (text, 2)
    assert len(results["weights_sha256"]) == 64
    assert "latent-field" in results["command"]
    again = tmp_path / "again.svg"
    assert main(["plot", "latent-field", str(tmp_path / "a.json"), "--output", str(again)]) == 0
    assert again.read_bytes() == picture.read_bytes()


def test_a_model_without_refiners_has_no_field_to_draw(tiny_folder, tmp_path, capsys):
    output = ["--output", str(tmp_path / "a.svg")]

    assert main(["plot", "latent-field", str(tiny_folder), "Ein Hund", *output]) == 2

    assert "Train one with `stage: refiner`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_results_file_that_cannot_be_written_is_found_before_measuring(tmp_path, capsys):
    file = tmp_path / "no/results.json"

    assert main(["landscape", "no-model", "--source", "a", "--target", "b", "--output", str(file)])

    assert "must be in a folder that exists" in capsys.readouterr().err
