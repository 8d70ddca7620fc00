"""Scores of answers, how they are kept, and a judge: a stand-in for Ollama's server answers on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared import judge
from shared.files import fill_in, save_json
from shared.judge import check_ollama, generate_model_scores, parse_score, query_model
from shared.scoring import (
    asked_words,
    bootstrap_interval,
    is_right,
    rouge_l,
    scores_by_family,
    text_bits,
    wilson_interval,
)

FOX = {"instruction": "Plural, please.", "input": "fox", "output": "foxes", "family": "plural"}


def entry(family="plural", output="foxes", accept=(), instruction="Do it.", given=""):
    return {"instruction": instruction, "input": given, "output": output, "family": family, "accept": list(accept)}  # fmt: skip


# --- right or wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "response", "right"),
    [
        (entry(), "foxes", True),
        (entry(), "  Foxes.\n", True),
        (entry(), "FOXES", True),
        (entry(), "foxes..", False),
        (entry(), "foxes foxes", False),
        (entry(), "", False),
        (entry(output="seldom", accept=["rarely"]), "Rarely.", True),
        (entry(output="12000 metres", accept=["12000"]), "12000", True),
        (entry("capitalisation", "FOX"), "fox", False),
        (entry("capitalisation", "Fox"), "Fox.", False),
        (entry("capitalisation", "Fox"), " Fox ", True),
        (entry("active_to_passive", "It was eaten."), "it was eaten.", False),
        (entry("statement_to_question", "Is it?"), "Is it", False),
        (entry("describe", "A fox is red."), "A fox is red.", None),
        (entry("explain", "A fox is red."), "", None),
        ({"output": "Yes", "instruction": "Is it?", "input": ""}, "yes", True),
    ],
)
def test_the_rule(item, response, right):
    assert is_right(item, response) is right


SENTENCE = 'Write a sentence with the words "moon" and "star".'


@pytest.mark.parametrize(
    ("instruction", "given", "response", "right"),
    [
        (SENTENCE, "", "The Moon is no star.", True),
        (SENTENCE, "", "The moon is bright.", False),
        (SENTENCE, "", "The moon starts.", False),
        (SENTENCE, "", "The moon is no star", False),
        (SENTENCE, "", "the moon is no star.", False),
        (SENTENCE, "", "A moon. A star.", False),
        ("Use the word in a sentence.", "often", "We often go!", True),
        ("Use the word in a sentence.", "often", "We go.", False),
        ("Write a short sentence about a zebra.", "", "Is it a zebra?", True),
        ("Write a short sentence about a zebra.", "", "It is striped.", False),
        ("Write a short sentence about your sister.", "", "My sister sings.", True),
        ("Write a sentence in which somebody is afraid.", "", "He ran.", True),
    ],
)
def test_sentences(instruction, given, response, right):
    item = entry("write_sentence", "x", instruction=instruction, given=given)
    assert is_right(item, response) is right


def test_every_stored_answer_is_right_by_the_rule():
    from shared import editions

    entries = editions.read_instructions(editions.INSTRUCTIONS)
    for item in entries:
        for answer in [item["output"], *item["accept"]]:
            if item["split"] == "test":
                assert is_right(item, answer) is not False, item
    test = [e for e in entries if e["split"] == "test" and e["family"] == "write_sentence"]
    assert all(asked_words(item) for item in test)


def test_rouge_l():
    assert rouge_l({"output": "the cat sat"}, "The cat, sat.") == 1
    assert rouge_l({"output": "a b c d"}, "a c") == pytest.approx(2 * 2 / 6)
    assert rouge_l({"output": "x y", "accept": ["a b"]}, "a b") == 1
    assert rouge_l({"output": "x"}, "") == 0


def test_the_bootstrap_covers_what_it_says():
    import numpy as np

    draw = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_interval(draw.random(60) < 0.4, draws=400)
        inside += low <= 0.4 <= high
    assert 175 <= inside <= 199
    assert bootstrap_interval([1, 1, 1]) == (1, 1)
    assert bootstrap_interval([0, 1, 1, 0]) == bootstrap_interval([0, 1, 1, 0])


def test_the_table_by_family():
    data = [entry(), entry(), entry("describe", "red fox"), entry("dates", "1 May")]
    table = scores_by_family(data, ["foxes", "fox", "red fox", "2 May"])
    assert list(table.index) == ["plural", "describe", "dates", "rules", "all"]
    assert table["items"].tolist() == [2, 1, 1, 3, 4]
    assert table.exact["plural"] == 0.5 and table.exact["dates"] == 0
    assert table.exact.isna().tolist() == [False, True, False, False, False]
    assert table.exact["all"] == pytest.approx(1 / 3) and table.rouge_l["describe"] == 1
    assert (table.rouge_l_low <= table.rouge_l).all() and (
        table.rouge_l <= table.rouge_l_high
    ).all()
    with pytest.raises(ValueError):
        scores_by_family(data, ["foxes"])


def test_small_talk_and_controls_are_in_no_mean():
    data = [entry(), entry("antonym", "hot"), entry("unread", "Rome"), entry("talk", "Hi!")]
    data += [entry("unknowable", "I don't know."), entry("look_alike", "Rex.")]
    table = scores_by_family(data, ["foxes", "cold", "Rome", "Hi!", "I don't know. Nobody does.", "I don\u2019t know"])  # fmt: skip
    assert table["items"][["rules", "knowledge", "all"]].tolist() == [1, 1, 2]
    assert table.exact[["rules", "knowledge", "unread", "unknowable"]].tolist() == [1, 0, 1, 1]
    assert table.exact[["talk", "look_alike"]].isna().all()
    assert table.admits[["unknowable", "look_alike", "rules"]].tolist() == [1, 1, 0]


def test_wilsons_interval():
    """As scipy and the textbook have it; with a width where nothing, or everything, is right."""
    low, high = wilson_interval(70, 100)
    assert (round(low, 3), round(high, 3)) == (0.604, 0.781)
    assert wilson_interval(0, 50)[0] == 0 and 0.06 < wilson_interval(0, 50)[1] < 0.08
    assert wilson_interval(50, 50) == pytest.approx(
        tuple(1 - x for x in wilson_interval(0, 50)[::-1])
    )
    for right, count in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="at least one item"):
            wilson_interval(right, count)


def test_bits_of_a_text():
    """By hand: windows of the context, each of whose first tokens is only read; the same mode afterwards."""
    import torch

    from shared.gpt_model import GPTModel
    from shared.text_data import make_encoding

    encoding = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})
    torch.manual_seed(0)
    cfg = {"vocab_size": 257, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
    model = GPTModel(cfg | {"drop_rate": 0.5, "qkv_bias": False}).train()
    text, nats = "caf\u00e9 and a long tail", 0.0
    found, ids = text_bits(model, text, encoding), encoding.encode_ordinary(text)
    assert model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 8):
            read = torch.tensor([ids[start : start + 8]])
            read = read[:, : len(ids) - 1 - start]
            shares = model(read)[0].log_softmax(-1)
            nats -= sum(shares[t, ids[start + t + 1]].item() for t in range(read.shape[1]))
    assert found == pytest.approx(nats / (len(ids) - 1) / 0.6931472, rel=1e-5)


# --- kept in files --------------------------------------------------------------------------------


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "x.json"
    save_json(path, ["é"])
    with pytest.raises(TypeError):
        save_json(path, [object()])
    assert json.loads(path.read_text(encoding="utf-8")) == ["é"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_not_computed_again(tmp_path):
    path, data, asked = tmp_path / "x.json", [{"n": n} for n in range(7)], []

    def compute(entries):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append([e["n"] for e in entries])
        return [e["n"] ** 2 for e in entries]

    with pytest.raises(KeyboardInterrupt):
        fill_in(path, data, "square", compute, size=2)
    assert len(json.loads(path.read_text())) == 4
    found = fill_in(path, data, "square", lambda part: [e["n"] ** 2 for e in part], size=2)
    assert asked == [[0, 1], [2, 3]] and [e["square"] for e in found] == [0, 1, 4, 9, 16, 25, 36]
    assert data[0] == {"n": 0}
    assert fill_in(path, data, "square", lambda part: 1 / 0) == found


@pytest.mark.parametrize(
    "content", ["[{", '{"a": 1}', "[1]", '[{"n": 5, "s": 1}]', '[{"n": 0}]', "[[]]"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="something else"):
        fill_in(path, [{"n": 0}], "s", lambda part: [1] * len(part))
    assert path.read_text() == content


def test_too_few_results_are_an_error(tmp_path):
    with pytest.raises(ValueError):
        fill_in(tmp_path / "x.json", [{"n": 0}, {"n": 1}], "s", lambda part: [1])
    assert not list(tmp_path.iterdir())


# --- a judge --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85), ("0", 0), ("100", 100), (" 85.\n", 85), ("**85**", 85), ("Score: 85", 85), ("Score: 85/100", 85),
        ("85/100", 85), ("85 out of 100", 85), ("8/10", 80), ("7.5 / 10", 75), ("The score is 90.", 90), ("score = 40", 40),
        ("I would give it a score of 70 because 2 words are wrong.", 70), ("Score: **95**\nReason: all 3 are there", 95),
        ("72.6", 73), ("<b>60</b>", 60),
        ("", None), ("quite good", None), ("120", None), ("-5", None), ("Score: 120/100", None), ("70 or 80", None),
        ("Score: 70. Score: 80.", None), ("about 1,000", None), ("gpt4", None), ("3rd", None), ("70%", 70),
        ("The answer is 5 letters long.", None), ("It has 2 mistakes. Score: 60.", 60), ("85\n\nTwo of 3 words are right.", 85),
        ("70-80", None), ("70 – 80", None), ("5/5", None), ("Score: 4/5", None), ("4 out of 5", None), ("0.85", None),
        ("Score (0-100): 85", None), ("Rating: 85", 85), ("The score is between 0 and 100.", None), ("90\n80", None),
        ("85. The answer is right.", 85), ("1. It is right.\n2. It is short.", None), ("I'd give it a 90", 90),
        ("I would mark 2 words as wrong.", None), ("85, since a word is wrong", 85), ("85 - good", 85), ("Grade: 85", 85),
        ("8 out of 10 words are right. Score: 70", 70), ("<think>perhaps 50?\nScore: 50</think>\n85", 85), ("<think> 50", None),
        ('{"score": 85}', 85), ("3 letters, as asked.", None), ("**Score:** 85\n\nIt has 5 letters and 2 mistakes.", 85),
        ("It names 2 of 3 colors; 85/100.", 85), ("The correct answer is 12.", None), ("A score between 70 and 80.", None),
    ],
)  # fmt: skip
def test_scores_are_read_beyond_doubt_or_not_at_all(reply, score):
    assert parse_score(reply) == score


@pytest.fixture
def server(monkeypatch):
    """A stand-in for Ollama: set `.replies` (texts, or functions of the handler); `.asked` keeps requests."""

    class Handler(BaseHTTPRequestHandler):
        def send(self, content, status=200):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            assert self.path == "/api/tags"
            self.send({"models": [{"model": name} for name in found.models]})

        def do_POST(self):
            assert self.path == "/api/chat"
            found.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = found.replies[min(len(found.asked), len(found.replies)) - 1]
            if callable(reply):
                reply(self)
            else:
                message = {"role": "assistant", "content": reply}
                self.send({"model": found.asked[-1]["model"], "message": message, "done": True})

        def log_message(self, *args):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.models, found.replies, found.asked = ["judge:1b"], ["50"], []
    monkeypatch.setenv("OLLAMA_HOST", f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # must not be asked
    thread = threading.Thread(
        target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


DATA = [FOX | {"answer": answer} for answer in ("foxes", "fox", "boxes", "foxs")]


def test_a_server_is_found(server):
    assert check_ollama(timeout=600) == ["judge:1b"]
    server.models = []
    assert check_ollama(timeout=600) == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "http://10.255.255.1:9", "no.such.host.invalid", ":::"]
)
def test_without_a_server_there_is_no_answer(monkeypatch, host):
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert check_ollama() is None


def test_the_question_goes_by_name_and_is_repeatable(server):
    server.replies = ["  an answer "]
    assert query_model("How good?", "judge:1b", timeout=600) == "  an answer "
    asked = server.asked[0]
    assert asked["model"] == "judge:1b" and not asked.get("stream")
    assert asked["messages"] == [{"role": "user", "content": "How good?"}]
    assert asked["options"]["temperature"] == 0 and asked["options"]["seed"] == 123


def gone(handler):
    handler.connection.close()


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (gone, ConnectionError, "ollama serve"),
        (lambda h: h.send({"error": "model 'judge:1b' not found"}, 404), ValueError, "ollama pull judge:1b"),
        (lambda h: h.send({"error": "model requires more system memory"}, 500), ValueError, "error 500: model requires more system memory$"),
        (lambda h: h.send(b"<html>hello</html>"), ValueError, "no Ollama server"),
        (lambda h: h.send({"done": "maybe"}), ValueError, "no Ollama server"),
    ],
    ids=["gone", "no such model", "no memory", "html", "other json"],
)  # fmt: skip
def test_what_goes_wrong_has_a_clear_message(server, reply, error, says):
    server.replies = [reply]
    with pytest.raises(error, match=says):
        query_model("How good?", "judge:1b", timeout=600)


def test_a_silent_server_is_not_waited_for(server):
    asked = threading.Event()
    server.replies = [lambda handler: asked.wait(600)]
    try:
        with pytest.raises(TimeoutError, match="within 0.5 seconds"):
            query_model("How good?", "judge:1b", timeout=0.5)
    finally:
        asked.set()


def test_no_server_is_a_connection_error(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    with pytest.raises(ConnectionError, match="ollama serve"):
        query_model("How good?", timeout=600)


def test_scores_of_a_judge(server):
    server.replies = ["100", "Score: 10/100", "Well, it depends.", "250"]
    assert generate_model_scores(DATA, "answer", "judge:1b") == [100, 10, None, None]
    question = server.asked[1]["messages"][0]["content"]
    for part in (
        "Plural, please.",
        "Input: fox",
        "correct answer: foxes",
        "assistant's answer: fox\n",
    ):
        assert part in question


def test_a_run_that_is_cut_off_keeps_what_it_has(server, tmp_path):
    path = tmp_path / "scores.json"
    server.replies = ["100", "20", gone]
    with pytest.raises(ConnectionError):
        generate_model_scores(DATA, "answer", "judge:1b", path)
    assert [e["score"] for e in json.loads(path.read_text())] == [100, 20]
    server.replies = ["7"]
    assert generate_model_scores(DATA, "answer", "judge:1b", path) == [100, 20, 7, 7]
    assert len(server.asked) == 5
    assert generate_model_scores(DATA, "answer", "judge:1b", path) == [100, 20, 7, 7]
    assert len(server.asked) == 5


def test_the_prompt_has_no_input_where_there_is_none():
    text = judge.judge_prompt(
        {"instruction": "Name a colour.", "input": "", "output": "red"}, "blue"
    )
    assert "Input" not in text and "blue" in text
