import pytest
from picture_results import benchmark, quality, write

from hf_nar.plots.sources import Section, read_results, read_section, read_sections


def test_every_text_is_escaped(tmp_path):
    file = write(tmp_path, quality={"rows": [{"label": "a\x00b\u202e\ufffe\ud800"}]})

    assert read_results(file)["quality"]["rows"][0]["label"] == "a\\x00b\\u202e\\ufffe\\ud800"


def test_files_without_the_section_are_passed_over(tmp_path):
    files = [write(tmp_path / "a", benchmark=benchmark()), write(tmp_path / "b", quality=quality())]

    assert [section.file for section in read_sections(files, "quality", "evaluate")] == [files[1]]


def test_a_missing_section_names_the_command_that_writes_it(tmp_path):
    file = write(tmp_path, quality=quality())

    with pytest.raises(ValueError, match=r"section \"benchmark\" .* `hf-nar benchmark`"):
        read_section([file], "benchmark", "benchmark")


def test_two_benchmarks_are_not_mixed(tmp_path):
    files = [write(tmp_path / name, benchmark=benchmark()) for name in "ab"]

    with pytest.raises(ValueError, match=r"2 have it: .* Leave the others out"):
        read_section(files, "benchmark", "benchmark")


@pytest.mark.parametrize("text", ["{", "[1]", '{"quality": [1]}', "[" * 100_000, "\xff"])
def test_a_file_that_is_no_results_file_is_named(tmp_path, text):
    file = tmp_path / "results.json"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(ValueError, match=r"results\.json"):
        read_sections([file], "quality", "evaluate")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.json does not"):
        read_results(tmp_path / "no.json")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, "3"),
        (float, True),
        (float, float("nan")),
        (float, None),
        (int, 3.0),
        (str, 3),
        (bool, 1),
        (list, {}),
        (dict, []),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path, kind, value):
    section = Section(tmp_path / "results.json", "quality", {"key": value})

    with pytest.raises(ValueError, match=r'"key" in section "quality" of .*results\.json must be'):
        section.get("key", kind)


def test_a_whole_number_is_a_number(tmp_path):
    assert Section(tmp_path, "quality", {"key": 3}).get("key", float) == 3


@pytest.mark.parametrize("values", [[1.0], [1.0, "2"], [1.0, float("inf")], "12"])
def test_a_list_must_have_its_numbers(tmp_path, values):
    with pytest.raises(ValueError, match="must list 2 numbers"):
        Section(tmp_path, "latent_space", {}).check_numbers("grid_x", values, 2)


@pytest.mark.parametrize("rows", [[], [1]])
def test_rows_must_be_objects(tmp_path, rows):
    with pytest.raises(ValueError, match=r'"rows" .* must list objects'):
        Section(tmp_path, "quality", {"rows": rows}).rows()


def test_hardware_is_one_line(tmp_path):
    section = Section(tmp_path, "benchmark", benchmark())

    assert section.hardware() == "Some CPU, 2 cores, 1 thread, float32"
