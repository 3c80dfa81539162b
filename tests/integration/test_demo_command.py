"""`hf-nar demo` as its users and their programs meet it: 50 at a time, and some that mean harm."""

import json
import re
import subprocess
import sys
import threading
from html import unescape
from itertools import product

import httpx
import psutil
import pytest
from demo_server import STUDENT, hf_nar_demo, running
from gradio_client import Client

from hf_nar.demo.space import write_space
from hf_nar.inference import Translator

CALL = "/translate"
BEINGS = ["Ein Hund", "Eine Katze", "Ein Mann", "Eine Frau", "Ein Mädchen"]
DEEDS = ["läuft", "schläft", "sitzt", "springt", "spielt"]
PLACES = ["im Schnee.", "auf der Straße."]
TEXTS = [" ".join(parts) for parts in product(BEINGS, DEEDS, PLACES)]
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def server():
    """Return a running demo of the model in this repository."""
    with running(hf_nar_demo(STUDENT, "--max-waiting", len(TEXTS))) as found:
        yield found


def translation_in(markup):
    """Return source and translation of an answer."""
    source, translation = re.findall(r"<p[^>]* dir=\"auto\"[^>]*>(.*?)</p>", markup)[:2]
    return tuple(unescape(re.sub(r"<[^>]*>", "", part)) for part in (source, translation))


class PeakMemory(threading.Thread):
    """Watches a process until it is told to stop; `megabytes` is the most it had."""

    def __init__(self, pid):
        super().__init__()
        self.process, self.done = psutil.Process(pid), threading.Event()
        self.megabytes = 0.0

    def run(self):
        while not self.done.wait(0.02):
            self.megabytes = max(self.megabytes, self.process.memory_info().rss / MEGABYTE)


@pytest.fixture(scope="module")
def clients(server):
    """Return a client for each text."""
    made = [Client(server.url, verbose=False) for _ in TEXTS]
    yield made
    for client in made:
        client.close()


def ask_all(clients):
    """Send all texts at once, each from its own client; return the answers."""
    pairs = zip(clients, TEXTS, strict=True)
    jobs = [client.submit(text, api_name=CALL) for client, text in pairs]
    return [job.result(timeout=300) for job in jobs]


def test_fifty_at_once_get_their_own_answers_in_bounded_memory(server, clients):
    ask_all(clients)  # what is loaded only once is loaded now
    before = psutil.Process(server.pid).memory_info().rss / MEGABYTE
    peak = PeakMemory(server.pid)
    peak.start()

    answers = ask_all(clients)

    peak.done.set()
    peak.join()
    translator = Translator.from_pretrained(STUDENT, device="cpu", num_refinement_iterations=4)
    expected = list(zip(TEXTS, translator.translate(TEXTS, batch_size=1), strict=True))
    assert len(set(TEXTS)) == 50
    assert [translation_in(answer) for answer in answers] == expected
    assert peak.megabytes - before < 100


def test_an_answer_follows_its_settings(clients):
    settings = {"refinement": "delta_posterior", "iterations": 0, "lengths": 3, "latents": 2}

    markup = clients[0].predict(TEXTS[0], **settings, teacher_ranks=False, api_name=CALL)

    assert "<h3>First draft</h3>" in markup
    assert "<h3>Iteration 1</h3>" not in markup


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" ", "There is nothing to translate yet"),
        ("Hund " * 100, "This text has 500 characters"),
        ("<script>", "The model does not know &lt; &gt;"),
    ],
)
def test_what_cannot_be_translated_gets_a_sentence(clients, text, sentence):
    markup = clients[0].predict(text, api_name=CALL)

    assert f'<p class="note">{sentence}' in markup.replace('<article class="answer">', "")
    assert "<script" not in markup


def test_a_strategy_that_the_model_lacks_is_refused(clients):
    with pytest.raises(ValueError, match="not in the list of choices"):
        clients[0].predict(TEXTS[0], refinement="score", api_name=CALL)


def test_nothing_but_the_page_is_open(server):
    paths = ["gradio_api/upload", "gradio_api/file=README.md", "monitoring", "gradio_api/runs"]
    statuses = {httpx.get(f"{server.url}/{path}").status_code for path in paths}
    big = httpx.post(f"{server.url}/gradio_api/queue/join", content=b"x" * 200_000)

    assert statuses == {404}
    assert big.status_code == 413
    endpoints = httpx.get(f"{server.url}/gradio_api/info").json()
    assert list(endpoints["named_endpoints"]) == [CALL]
    assert endpoints["unnamed_endpoints"] == {}


def test_the_page_names_no_other_place_to_load_from(server):
    page = httpx.get(server.url).text
    theme = httpx.get(f"{server.url}/theme.css").text

    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"https?:", page)
    assert not re.findall(r"@import|url\([\"']?https?:", theme)


def test_only_this_machine_can_reach_it(server):
    connections = psutil.Process(server.pid).net_connections("tcp")
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}

    assert len(listening) == 1
    assert all(address.startswith("127.") for address in listening)


def test_a_port_in_use_is_one_sentence(server):
    port = server.url.rsplit(":", 1)[1]

    done = subprocess.run(hf_nar_demo(STUDENT, "--port", port), capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.startswith("hf-nar: error: ")
    assert port in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_space_runs_where_the_package_is_not(tmp_path):
    write_space(tmp_path, "owner/name", languages=("de", "en"))
    settings = json.loads((tmp_path / "settings.json").read_text("utf-8"))
    settings["model"] = str(STUDENT)  # there is no Hub here
    (tmp_path / "settings.json").write_text(json.dumps(settings), "utf-8")
    without = "import runpy, sys; sys.modules['hf_nar'] = None; sys.path.insert(0, '.'); "
    command = [sys.executable, "-c", without + "runpy.run_path('app.py', run_name='__main__')"]

    with running(command, tmp_path) as space:
        client = Client(space.url, verbose=False)
        markup = client.predict(TEXTS[0], api_name=CALL)
        client.close()

    assert translation_in(markup) == (TEXTS[0], "A dog is running in the snow.")
