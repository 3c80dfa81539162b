"""The papers that cards cite, by the keys of their BibTeX."""

from __future__ import annotations

from collections.abc import Sequence

DISTILLATION = "kim2016sequence"
BIBTEX = {
    DISTILLATION: """\
@inproceedings{kim2016sequence,
  title = {Sequence-Level Knowledge Distillation},
  author = {Kim, Yoon and Rush, Alexander M.},
  booktitle = {EMNLP},
  year = {2016}
}""",
    "gu2018nonautoregressive": """\
@inproceedings{gu2018nonautoregressive,
  title = {Non-Autoregressive Neural Machine Translation},
  author = {Gu, Jiatao and Bradbury, James and Xiong, Caiming and Li, Victor O. K. and
            Socher, Richard},
  booktitle = {ICLR},
  year = {2018}
}""",
    "lee2018deterministic": """\
@inproceedings{lee2018deterministic,
  title = {Deterministic Non-Autoregressive Neural Sequence Modeling by Iterative Refinement},
  author = {Lee, Jason and Mansimov, Elman and Cho, Kyunghyun},
  booktitle = {EMNLP},
  year = {2018}
}""",
    "shu2020latent": """\
@inproceedings{shu2020latent,
  title = {Latent-Variable Non-Autoregressive Neural Machine Translation with Deterministic
           Inference Using a Delta Posterior},
  author = {Shu, Raphael and Lee, Jason and Nakayama, Hideki and Cho, Kyunghyun},
  booktitle = {AAAI},
  year = {2020}
}""",
    "lee2020iterative": """\
@inproceedings{lee2020iterative,
  title = {Iterative Refinement in the Continuous Space for Non-Autoregressive Neural Machine
           Translation},
  author = {Lee, Jason and Shu, Raphael and Cho, Kyunghyun},
  booktitle = {EMNLP},
  year = {2020}
}""",
}
# Of each strategy, by its name in `generate`.
STRATEGIES = {
    "delta_posterior": "shu2020latent",
    "none": "shu2020latent",
    "score": "lee2020iterative",
    "energy": "lee2020iterative",
    "iterative": "lee2018deterministic",
}
CANDIDATES = "gu2018nonautoregressive"  # several translations, of which a teacher picks one


def bibtex(keys: Sequence[str]) -> str:
    """Return entries, each once, in the order in which they are named first.

    Raises:
        ValueError: If a key is unknown.
    """
    for key in keys:
        if key not in BIBTEX:
            raise ValueError(f"A citation must be one of {', '.join(BIBTEX)}; got {key!r}.")
    return "\n\n".join(BIBTEX[key] for key in dict.fromkeys(keys))
