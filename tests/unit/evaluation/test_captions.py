import pytest
import sacrebleu
from tiny_captioners import new_captioner

from hf_nar.data.image_corpus import ImageCorpusConfig, load_image_corpus
from hf_nar.evaluation.captions import caption_scores, evaluate_captioner

REFERENCES = [
    ["a dog runs in the snow", "a dog is running through snow"],
    ["two men sit on a bench"],
    ["a red bus waits at the station", "there is a red bus", "a bus at a station"],
]


def test_bleu_is_sacrebleus_against_all_references():
    captions = [
        "a dog is running in the snow",
        "two men sit on the bench",
        "a red bus at a station",
    ]
    columns = [[texts[i] if i < len(texts) else None for texts in REFERENCES] for i in range(3)]

    scores = caption_scores(captions, REFERENCES)

    assert scores.bleu == pytest.approx(sacrebleu.corpus_bleu(captions, columns).score)
    assert "nrefs:var" in scores.bleu_signature
    only_first = caption_scores(captions, [texts[:1] for texts in REFERENCES])
    assert scores.bleu > only_first.bleu


def test_a_caption_is_exact_if_it_is_any_reference_but_for_spaces():
    captions = [" a dog is  running through snow ", "two men sit on a bench", "A bus at a station"]

    assert caption_scores(captions, REFERENCES).exact == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        ([], [], "at least one"),
        (["a"], [["a"], ["b"]], "1 translations and 2 references"),
        (["a", "b"], [["a"], []], "image 1 has none"),
    ],
)
def test_what_cannot_be_scored_is_refused(captions, references, message):
    with pytest.raises(ValueError, match=message):
        caption_scores(captions, references)


def test_each_number_of_iterations_has_a_row(tmp_path):
    captioner = new_captioner(tmp_path)
    config = ImageCorpusConfig(builder="digit_scenes", num_scenes=6, split="test")
    corpus = load_image_corpus(config)
    shown = []

    content = evaluate_captioner(str(tmp_path), captioner, corpus, [0, 1], 4, shown.append)

    assert content["rows"] == shown
    assert [row["iterations"] for row in shown] == [0, 1]
    assert [row["mean_iterations"] for row in shown] == [0.0, 1.0]
    assert content["images"] == content["references"] == 6
    captions = captioner.caption(corpus.images(range(6)), num_refinement_iterations=1)
    assert [example["caption"] for example in content["examples"]] == captions[:4]
    assert [len(example["drafts"]) for example in content["examples"]] == [2] * 4
    assert shown[1]["bleu"] == round(caption_scores(captions, corpus.captions).bleu, 2)
