"""A page that translates a sentence and shows its drafts.

`hf-nar demo` runs this file, and so does a Space on the Hub, where hf_nar is not installed: it
needs only transformers, torch and gradio. A Space keeps its `Settings` in settings.json.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from starlette.middleware import Middleware
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

if __package__:
    from .drafts import Html, Translation, element, notice, show
    from .guard import Guard
else:  # in a Space, where files stand side by side; here, for mypy, they do not
    from drafts import Html, Translation, element, notice, show  # type: ignore[import-not-found,no-redef]
    from guard import Guard  # type: ignore[import-not-found,no-redef]

MOST_ITERATIONS, MOST_LENGTHS, MOST_LATENTS = 10, 5, 4  # of the sliders
ITERATIONS = 4  # at first, so that there is something to see
TEACHER_MAX_LENGTH = 256  # tokens, where a teacher has no limit of its own
SEED = 0  # of sampled latents: the same text has the same translation
STRATEGIES = {
    "delta_posterior": "Delta posterior",
    "score": "Score network",
    "energy": "Energy network",
    "none": "First draft only",
    "iterative": "Read and rewrite",
}
FONTS = ["system-ui", "sans-serif"]  # of the reader's own machine
BACKGROUND = {"body_background_fill": "#f4f6f8", "body_background_fill_dark": "#12161a"}
INVITATION = "The translation appears here, and the drafts on the way to it."


@dataclass(frozen=True)
class Settings:
    """What the page shows, and how much it takes on.

    Args:
        model: Folder or Hub id of the model. Its last part is the title.
        revision: Branch, tag or commit of the model on the Hub.
        teacher: Folder or Hub id of an autoregressive model to compare with; None has none.
        languages: Codes of the source and target language, such as de and en; or neither.
        examples: Source texts to click on.
        max_characters: Longest text.
        max_waiting: Requests that wait at most; the next one is told that it is too many.
        concurrency: Requests that are answered at the same time.

    Raises:
        ValueError: If a number is less than 1, or only one language is given.
    """

    model: str
    revision: str | None = None
    teacher: str | None = None
    languages: Sequence[str] = ()
    examples: Sequence[str] = ()
    max_characters: int = 300
    max_waiting: int = 100
    concurrency: int = 1

    def __post_init__(self) -> None:
        for name in ("max_characters", "max_waiting", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if len(self.languages) not in (0, 2):
            raise ValueError(
                f"`languages` must be two, source and target, or none; got {self.languages!r}."
            )


@dataclass(frozen=True)
class Networks:
    """A non-autoregressive model and perhaps a teacher to compare with, each with a tokenizer."""

    model: Any
    tokenizer: Any
    teacher: Any = None
    teacher_tokenizer: Any = None

    def strategies(self) -> list[str]:
        """Return the strategies that the model has all networks for, its own choice first."""
        refiners = (None, *getattr(self.model, "refiners", ()))
        found = self.model.refinements.items()
        names = [name for name, rule in found if getattr(rule, "refiner", None) in refiners]
        own = self.model.resolve_knobs({}).refinement
        return sorted(names, key=lambda name: name != own)

    def can_rank(self) -> bool:
        """Return whether there is a teacher, and it reads what the model writes."""
        if self.teacher is None:
            return False
        same_size = self.teacher.config.vocab_size == self.model.config.vocab_size
        return same_size and bool(self.teacher_tokenizer.get_vocab() == self.tokenizer.get_vocab())


def load(settings: Settings) -> Networks:
    """Load the networks of a Space. The code in the model's folder is run: pin a revision."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else "auto"
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    source: dict[str, Any] = {"revision": settings.revision, "trust_remote_code": True}
    loader: Any = AutoModelForSeq2SeqLM
    model = loader.from_pretrained(settings.model, **source, **options).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(settings.model, **source)
    if settings.teacher is None:
        return Networks(model, tokenizer)
    teacher = loader.from_pretrained(settings.teacher, **options).to(device).eval()
    limits = teacher.generation_config
    if limits.max_length is None and limits.max_new_tokens is None:
        limits.max_length = TEACHER_MAX_LENGTH
    return Networks(model, tokenizer, teacher, AutoTokenizer.from_pretrained(settings.teacher))


def on_one_line(text: str, networks: Networks, settings: Settings) -> str:
    """Return a text as it is translated: on one line.

    Raises:
        ValueError: If there is nothing in it, or too much; its message is for the reader.
    """
    if len(text) > settings.max_characters:
        raise ValueError(
            f"This text has {len(text):,} characters, and here {settings.max_characters:,} are the "
            f"most: please translate it sentence by sentence."
        )
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    if not line:
        raise ValueError("There is nothing to translate yet: please type a sentence.")
    pairs = [(networks.model, networks.tokenizer)]
    if networks.teacher is not None:
        pairs.append((networks.teacher, networks.teacher_tokenizer))
    for model, tokenizer in pairs:
        limit = getattr(model.config, "max_position_embeddings", None) or math.inf
        count = len(tokenizer(line, verbose=False)["input_ids"])
        if count > limit:
            raise ValueError(
                f"This text has {count:,} tokens, and for this model {limit:,} are the most: "
                f"please translate it sentence by sentence."
            )
    return line


def translate(
    networks: Networks, text: str, knobs: dict[str, Any], tell: Callable[..., Any]
) -> Translation:
    """Translate a text, with the teacher too if there is one.

    Args:
        networks: What translates.
        text: A source text.
        knobs: For the model's `generate`.
        tell: Is told which share is done, and what comes next.

    Raises:
        ValueError: If a knob is wrong.
    """
    tell(0.1, desc="Drafting and refining")
    model, tokenizer = networks.model, networks.tokenizer
    inputs = tokenizer(text, return_tensors="pt").to(model.device)

    def run(with_drafts: bool) -> tuple[Any, float]:
        noise = torch.Generator().manual_seed(SEED)
        form = {"return_dict_in_generate": True, "output_history": with_drafts}
        return _timed(model.generate, **inputs, **knobs, **form, generator=noise)

    output, milliseconds = run(with_drafts=False)  # drafts may cost a decoder pass each
    history = run(with_drafts=True)[0].history[: 1 + int(output.iterations[0])]
    special = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}

    def tokens(ids: torch.Tensor) -> list[str]:
        return list(tokenizer.convert_ids_to_tokens([i for i in ids.tolist() if i not in special]))

    words, unknown = tokens(output.sequences[0]), tokenizer.unk_token_id
    has_unknown = unknown is not None and bool((inputs["input_ids"] == unknown).any())
    found = Translation(
        source=text,
        tokens=words,
        probabilities=output.scores[0, : len(words)].float().exp().tolist(),
        drafts=[tokens(draft[0]) for draft in history],
        milliseconds=milliseconds,
        unknown=[c for c in dict.fromkeys(text) if unknown in tokenizer(c)["input_ids"]]
        if has_unknown
        else [],
    )
    if networks.teacher is None:
        return found
    tell(0.6, desc="The teacher is translating")
    inputs = networks.teacher_tokenizer(text, return_tensors="pt").to(networks.teacher.device)
    ids, milliseconds = _timed(networks.teacher.generate, **inputs)
    theirs = str(networks.teacher_tokenizer.decode(ids[0], skip_special_tokens=True))
    return dataclasses.replace(found, teacher_text=theirs, teacher_milliseconds=milliseconds)


def _timed(function: Callable[..., Any], **arguments: Any) -> tuple[Any, float]:
    """Return a result, and the milliseconds that it took."""
    start = time.perf_counter()
    result = function(**arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, 1000 * (time.perf_counter() - start)


def build(networks: Networks, settings: Settings) -> Any:
    """Return the page."""
    ranks = networks.can_rank()

    def answer(
        text: str,
        refinement: str,
        iterations: int,
        lengths: int,
        latents: int,
        teacher_ranks: bool,
        progress: Callable[..., Any] = gr.Progress(),  # noqa: B008  where gradio looks for it
    ) -> str:
        """Translate a text; the result is HTML."""
        knobs = {
            "refinement": refinement,
            "num_refinement_iterations": int(iterations),
            "length_beam": int(lengths),
            "num_latents": int(latents),
        }
        if teacher_ranks and ranks:
            knobs["rescoring_model"] = networks.teacher
        try:
            line = on_one_line(text, networks, settings)
            return show(translate(networks, line, knobs, progress), settings.languages)
        except ValueError as error:
            return notice(str(error))

    with gr.Blocks(title=_title(settings), analytics_enabled=False) as page:
        gr.HTML(_header(settings))
        with gr.Row(elem_id="board"):  # page.css says where on it each part stands
            with gr.Column(elem_id="ask", min_width=0):
                text = _text_box(settings)
                button = gr.Button("Translate", variant="primary")
            with gr.Column(elem_id="result", min_width=0):
                template = '<div role="status" aria-label="Result">${value}</div>'
                start = element("p", INVITATION, class_="invitation")
                result = gr.HTML(start, html_template=template)
            with gr.Column(elem_id="choose", min_width=0):
                gr.HTML(element("h2", "Try one of these"), visible=bool(settings.examples))
                examples = [gr.Button(example, size="sm") for example in settings.examples]
                inputs = [text, *_controls(networks)]
        run: dict[str, Any] = {"fn": answer, "inputs": inputs, "outputs": result}
        run |= {"concurrency_limit": settings.concurrency, "concurrency_id": "translate"}
        gr.on([button.click, text.submit], api_name="translate", **run)
        for example, chosen in zip(settings.examples, examples, strict=True):
            filled = chosen.click(partial(str, example), outputs=text, api_visibility="private")
            filled.then(api_visibility="private", **run)
    return page


def _title(settings: Settings) -> str:
    return Path(settings.model).name


def _header(settings: Settings) -> Html:
    return element(
        "header",
        element("h1", _title(settings)),
        element("p", " → ".join(settings.languages), class_="languages"),
        element("p", "Translates a whole sentence at once, then refines it."),
    )


def _text_box(settings: Settings) -> gr.Textbox:
    language = settings.languages[0] if settings.languages else None
    return gr.Textbox(
        label="Text to translate",
        info=f"One sentence, at most {settings.max_characters:,} characters",
        lines=1,  # so that Enter translates
        max_lines=8,
        autofocus=True,
        html_attributes=gr.InputHTMLAttributes(
            lang=language, spellcheck=False, autocomplete="off", enterkeyhint="go"
        ),
    )


def _controls(networks: Networks) -> list[Any]:
    """Return the controls of decoding; what would have no effect is not shown."""
    names = networks.strategies()
    network = networks.model
    iterations = max(network.resolve_knobs({}).num_refinement_iterations, ITERATIONS)
    has_latents = all(hasattr(network.refinements[name], "start") for name in names)
    refinement = gr.Radio(
        [(STRATEGIES.get(name, name), name) for name in names],
        value=names[0],
        label="Refinement",
        visible=len(names) > 1,
    )
    steps = gr.Slider(
        0,
        max(iterations, MOST_ITERATIONS),
        value=iterations,
        step=1,
        label="Iterations",
        info="At most; a draft that no longer changes is done",
    )
    with gr.Accordion("Search among several", open=False):
        beam = gr.Slider(
            1, MOST_LENGTHS, value=1, step=1, label="Lengths", info="Tried side by side"
        )
        latents = gr.Slider(
            1,
            MOST_LATENTS,
            value=1,
            step=1,
            label="Candidates",
            info="For each length, from other latents",
            visible=has_latents,
        )
        ranking = gr.Checkbox(label="The teacher chooses the best", visible=networks.can_rank())
    return [refinement, steps, beam, latents, ranking]


def start(
    networks: Networks, settings: Settings, host: str | None = None, port: int | None = None
) -> Any:
    """Serve the page, and return while it is served.

    Args:
        networks: What translates.
        settings: What the page shows and takes on.
        host: Address to listen on; None is this machine alone, or what a Space asks for.
        port: None takes a free one.

    Raises:
        OSError: If the port is taken.
    """
    translate(networks, "a", {}, lambda share, desc: None)  # the first call is slow
    page = build(networks, settings).queue(max_size=settings.max_waiting, api_open=False)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        ssr_mode=False,
        theme=gr.themes.Base(font=FONTS, font_mono=FONTS).set(**BACKGROUND),
        css_paths=Path(__file__).with_name("page.css"),
        app_kwargs={"middleware": [Middleware(Guard)], "openapi_url": None},
    )
    return page


def main() -> None:
    """Serve the Space that this file stands in."""
    text = Path(__file__).with_name("settings.json").read_text("utf-8")
    settings = Settings(**json.loads(text))
    page = start(load(settings), settings)
    print(f"The demo is at {page.local_url}", flush=True)  # noqa: T201  for the log of the Space
    page.block_thread()


if __name__ == "__main__":
    main()
