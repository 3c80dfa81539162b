"""What a card says of a family of networks, beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass

_LANMT_DECODING = """\
```python
output = model.generate(
    **tokenizer(sentences, return_tensors="pt"),
    num_refinement_iterations=4,  # 0 decodes from the prior mean; more may be better, and slower
    collapse_repeats=True,  # drop a token that repeats the one before it
    max_length=64,  # longest translation, in tokens
    return_dict_in_generate=True,
)
output.sequences, output.scores, output.lengths, output.iterations, output.history
```"""

_REFINEMENT_DECODING = """\
```python
output = model.generate(
    **tokenizer(sentences, return_tensors="pt"),
    num_refinement_iterations=9,  # decoder passes after the first, at most; 0 keeps the first draft
    stop_early=True,  # a sentence is finished when its draft repeats; False runs every pass
    jaccard_threshold=0.0,  # above 0 it is also finished when fewer of its tokens change
    patience=2,  # how many times in a row a draft must repeat
    length_beam=5,  # lengths tried side by side; the best translation is kept
    rank_by="own",  # or "teacher", with an autoregressive model of this vocabulary as teacher=
    collapse_repeats=True,  # drop a token that repeats the one before it
    max_length=64,  # longest translation, in tokens
    return_dict_in_generate=True,
)
output.sequences, output.scores, output.lengths, output.iterations, output.history
```"""

_LATENT_DECODING = """\
```python
output = model.generate(
    **tokenizer(sentences, return_tensors="pt"),
    refinement="score",  # or "energy", "delta_posterior", or "none": decode from the prior mean
    num_refinement_iterations=1,  # steps in the latent space; one softmax at the end
    step_size=1.0,  # factor of each step
    length_beam=3,  # lengths tried side by side; the best translation is kept
    num_latents=3,  # latents for each of them: the prior mean, and samples around it
    latent_temperature=0.5,  # how far around
    generator=torch.Generator().manual_seed(0),  # the samples' randomness
    rank_by="own",  # or give an autoregressive model of this vocabulary as rescoring_model=
    return_dict_in_generate=True,
)
output.sequences, output.scores, output.lengths, output.iterations, output.history
```"""

_DISTILLATION = """\
@inproceedings{kim2016sequence,
  title = {Sequence-Level Knowledge Distillation},
  author = {Kim, Yoon and Rush, Alexander M.},
  booktitle = {EMNLP},
  year = {2016}
}"""

_SHU_2020 = """\
@inproceedings{shu2020latent,
  title = {Latent-Variable Non-Autoregressive Neural Machine Translation with Deterministic
           Inference Using a Delta Posterior},
  author = {Shu, Raphael and Lee, Jason and Nakayama, Hideki and Cho, Kyunghyun},
  booktitle = {AAAI},
  year = {2020}
}"""

_LEE_2020 = """\
@inproceedings{lee2020iterative,
  title = {Iterative Refinement in the Continuous Space for Non-Autoregressive Neural Machine
           Translation},
  author = {Lee, Jason and Shu, Raphael and Cho, Kyunghyun},
  booktitle = {EMNLP},
  year = {2020}
}"""

_LEE_2018 = """\
@inproceedings{lee2018deterministic,
  title = {Deterministic Non-Autoregressive Neural Sequence Modeling by Iterative Refinement},
  author = {Lee, Jason and Mansimov, Elman and Cho, Kyunghyun},
  booktitle = {EMNLP},
  year = {2018}
}"""


@dataclass(frozen=True)
class Family:
    """Texts of a card that are the same for all models of a family.

    Args:
        decoding: How to decode differently, as Markdown.
        citation: BibTeX of its paper and of distillation; a recipe may have its own.
    """

    decoding: str
    citation: str


LATENT_REFINEMENT = Family(_LATENT_DECODING, f"{_LEE_2020}\n\n{_SHU_2020}\n\n{_DISTILLATION}")
FAMILIES = {
    "lanmt": Family(_LANMT_DECODING, f"{_SHU_2020}\n\n{_DISTILLATION}"),
    "refinement_nar": Family(_REFINEMENT_DECODING, f"{_LEE_2018}\n\n{_DISTILLATION}"),
}
