"""What a card says of a family of networks, beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_nar.cards.papers import DISTILLATION

_DECODING = """\
{imports}source = tokenizer([{example}], return_tensors="pt")
output = model.generate(
    **source,
{knobs}
    return_dict_in_generate=True,
)
output.sequences, output.scores, output.lengths, output.iterations, output.history"""

_LANMT_KNOBS = """\
    num_refinement_iterations=4,  # 0 decodes from the prior mean; more may be better, and slower
    collapse_repeats=True,  # drop a token that repeats the one before it
    max_length=64,  # longest translation, in tokens"""

_REFINEMENT_KNOBS = """\
    num_refinement_iterations=9,  # decoder passes after the first, at most; 0 keeps the first draft
    stop_early=True,  # a sentence is finished when its draft repeats; False runs every pass
    jaccard_threshold=0.0,  # above 0 it is also finished when fewer of its tokens change
    patience=2,  # how many times in a row a draft must repeat
    length_beam=5,  # lengths tried side by side; the best translation is kept
    rank_by="own",  # or "teacher", with an autoregressive model of this vocabulary as teacher=
    collapse_repeats=True,  # drop a token that repeats the one before it
    max_length=64,  # longest translation, in tokens"""

_LATENT_KNOBS = """\
    refinement="score",  # or "energy", "delta_posterior", or "none": decode from the prior mean
    num_refinement_iterations=1,  # steps in the latent space; nothing is decoded between them
    step_size=1.0,  # factor of each step
    likelihood_steps=0,  # after them, up the likelihood of the draft: each decodes it once
    length_beam=3,  # lengths tried side by side; the best translation is kept
    num_latents=3,  # latents for each of them: the prior mean, and samples around it
    latent_temperature=0.5,  # how far around
    generator=torch.Generator().manual_seed(0),  # the samples' randomness
    rank_by="own",  # or give an autoregressive model of this vocabulary as rescoring_model="""

_LANMT_ABOUT = """\
LaNMT (Shu et al. 2020) infers one latent vector for each source token, predicts the target length
from them, and decodes all target tokens in parallel; each refinement iteration moves the latents to
their posterior mean given the draft and decodes again."""

_LATENT_ABOUT = """\
Refinement in the latent space alone (Lee, Shu and Cho 2020): the network predicts the target
length, infers latents from the source, and moves them by steps of a score network, or along the
gradient of an energy network; words are decoded once, at the end. Both networks learn where delta
iterations of a finished LaNMT lead, which stays as it is."""

_REFINEMENT_ABOUT = """\
Iterative refinement in token space (Lee, Mansimov and Cho 2018): the network predicts the target
length, decodes all target tokens in parallel from copies of the source, and decodes again from its
own tokens and states."""


@dataclass(frozen=True)
class Family:
    """Texts of a card that are the same for all models of a family.

    Args:
        about: How its networks work, a paragraph.
        knobs: Arguments of `generate` as lines of Python, each with what it does.
        papers: Its papers, by keys of `papers.BIBTEX`, and that of distillation.
        imports: What the knobs need, as lines of Python.
    """

    about: str
    knobs: str
    papers: tuple[str, ...]
    imports: str = ""

    def decoding(self, sentence: str) -> str:
        """Return Python that decodes a sentence with all of the family's knobs.

        It follows a quickstart, where `model` and `tokenizer` have been loaded.
        """
        example = json.dumps(sentence, ensure_ascii=False)
        return _DECODING.format(imports=self.imports, example=example, knobs=self.knobs)


LATENT_REFINEMENT = Family(
    _LATENT_ABOUT,
    _LATENT_KNOBS,
    ("lee2020iterative", "shu2020latent", DISTILLATION),
    "import torch\n\n",
)
FAMILIES = {
    "lanmt": Family(_LANMT_ABOUT, _LANMT_KNOBS, ("shu2020latent", DISTILLATION)),
    "refinement_nar": Family(
        _REFINEMENT_ABOUT, _REFINEMENT_KNOBS, ("lee2018deterministic", DISTILLATION)
    ),
}


def family_of(name: object, recipe: Mapping[str, Any]) -> Family:
    """Return the texts for a family's name in `config.json` and the recipe of its last stage.

    Raises:
        ValueError: If it is no family of this package.
    """
    if name not in FAMILIES:
        raise ValueError(
            f"A card must be of a family of this package, one of {', '.join(FAMILIES)}; got "
            f"{name!r}. Measure again with `hf-nar evaluate`, or set the recipe's `family`."
        )
    is_model = recipe.get("stage", "model") == "model"
    return FAMILIES[str(name)] if is_model else LATENT_REFINEMENT
