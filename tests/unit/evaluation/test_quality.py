from itertools import pairwise

import pytest
import sacrebleu
import torch
from tiny_runs import tiny_pairs

from hf_nar.evaluation.quality import corpus_scores, measure_quality
from hf_nar.inference import Translator

REFERENCES = ["A dog runs in the snow.", "The cat sits on the street, alone.", "A man waits."]
HYPOTHESES = ["A dog runs in a snow.", "The cat sits on the street, alone.", "Man waits there."]


def test_scores_are_those_of_sacrebleu():
    scores = corpus_scores(HYPOTHESES, REFERENCES)

    bleu = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES])
    chrf = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES])
    assert 0 < bleu.score < 100
    assert scores.bleu == pytest.approx(bleu.score)
    assert scores.chrf == pytest.approx(chrf.score)
    assert scores.length_ratio == pytest.approx(bleu.sys_len / bleu.ref_len)
    assert "tok:13a" in scores.bleu_signature
    assert "case:mixed" in scores.bleu_signature
    assert scores.chrf_signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")


def test_a_copy_of_the_references_has_the_best_scores():
    scores = corpus_scores(REFERENCES, REFERENCES)

    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.length_ratio == 1


def test_case_counts():
    lower = [text.lower() for text in REFERENCES]

    assert corpus_scores(lower, REFERENCES).bleu < 90


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_as_many_translations_as_references_are_needed(hypotheses, references):
    with pytest.raises(ValueError, match="one translation for each reference and at least one"):
        corpus_scores(hypotheses, references)


# A real model


@pytest.fixture
def translator(tiny_model, tiny_tokenizer):
    torch.nn.init.normal_(tiny_model.lm_head.weight, std=1.0)
    torch.nn.init.normal_(tiny_model.posterior_head.weight, std=1.0)
    return Translator(tiny_model, tiny_tokenizer)


def drafts_of(translator, sources, iterations):
    """Return the last draft of each source without its end token, decoded one by one."""
    drafts, counts = [], []
    for source in sources:
        ids = torch.tensor([translator.tokenizer(source)["input_ids"]])
        output = translator.model.generate(
            ids, num_refinement_iterations=iterations, return_dict_in_generate=True
        )
        drafts.append(output.history[-1][0, :-1].tolist())
        counts.append(int(output.iterations[0]))
    return drafts, counts


def test_shares_are_counted_over_the_last_drafts(translator):
    sources = [source for source, _ in tiny_pairs()[:8]]
    drafts, counts = drafts_of(translator, sources, iterations=3)
    lengths = [len(translator.tokenizer(text)["input_ids"]) - 1 for _, text in tiny_pairs()[:8]]
    references = [text for _, text in tiny_pairs()[:8]]

    quality, traces = measure_quality(translator, sources, references, 3, batch_size=3)

    repeats = sum(a == b for draft in drafts for a, b in pairwise(draft))
    assert quality.repetition_share == round(repeats / sum(map(len, drafts)), 4)
    assert 0 < quality.repetition_share < 1
    right = sum(len(draft) == length for draft, length in zip(drafts, lengths, strict=True))
    assert quality.exact_length_share == right / 8
    assert quality.mean_iterations == sum(counts) / 8
    assert [trace.source for trace in traces] == sources


def test_the_share_of_right_lengths_follows_the_references(translator):
    sources = [source for source, _ in tiny_pairs()[:4]]
    drafts, _ = drafts_of(translator, sources, iterations=0)
    lengths = [len(draft) for draft in drafts]
    lengths[1] += 1
    references = [" ".join(["a"] * length) for length in lengths]  # "a" is one subword

    quality, _ = measure_quality(translator, sources, references, 0, batch_size=2)

    assert quality.exact_length_share == 0.75


def test_texts_are_translated_with_the_iterations_asked_for(translator):
    pairs = tiny_pairs()[:5]
    sources, references = [list(side) for side in zip(*pairs, strict=True)]

    for iterations in (0, 2):
        quality, traces = measure_quality(translator, sources, references, iterations, 4)
        texts = translator.translate(sources, num_refinement_iterations=iterations)
        assert [trace.translation for trace in traces] == texts
        assert quality.iterations == iterations
        assert quality.bleu == round(sacrebleu.corpus_bleu(texts, [references]).score, 2)
        assert quality.chrf == round(sacrebleu.corpus_chrf(texts, [references]).score, 2)
        assert quality.seconds >= 0


def test_sources_and_references_must_be_as_many(translator):
    with pytest.raises(ValueError, match="one translation for each reference"):
        measure_quality(translator, ["Ein Hund", "Eine Katze"], ["A dog"], 0, 2)
