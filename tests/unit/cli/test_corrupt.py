import gzip

import pytest

from hf_nar.cli.main import main
from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corpus_rows import file_pairs

TEXT = "a man rides a bicycle .\n\ntwo dogs run through the snow .\n"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    return path


def test_a_text_is_corrupted_as_a_corpus_does_it_line_by_line(text_file, tmp_path, capsys):
    output = tmp_path / "noisy.txt"
    call = [str(text_file), "--rate", "0.5", "--seed", "3", "--output", str(output)]

    assert main(["corrupt", *call]) == 0

    config = CorpusConfig(text_file=text_file, corruption_rate=0.5, seed=3)
    lines = output.read_text().splitlines()
    assert lines == [source for source, _ in file_pairs(config)]
    assert lines[1] == ""
    assert output.read_text() != TEXT
    assert "Wrote 3 corrupted sentences" in capsys.readouterr().out


def test_the_weights_choose_the_operations(text_file, tmp_path):
    output = tmp_path / "noisy.txt"
    call = [str(text_file), "--rate", "1", "--weights", "swap=0.5, drop=0"]

    assert main(["corrupt", *call, "--output", str(output)]) == 0

    assert output.read_text().splitlines()[0] == "man a a rides . bicycle"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "2"], "`corruption_rate` must be above 0 and at most 1, got 2.0"),
        (["--rate", "0.1", "--weights", "swap"], "`--weights` must be such as swap=1,drop=2"),
        (["--rate", "0.1", "--weights", "shuffle=1"], "`corruption_weights` must name operations"),
    ],
)
def test_a_bad_option_is_one_line(text_file, tmp_path, capsys, options, message):
    output = tmp_path / "noisy.txt"

    assert main(["corrupt", str(text_file), *options, "--output", str(output)]) == 2

    assert message in capsys.readouterr().err
    assert not output.exists()
