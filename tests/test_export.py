"""A model of ours as a Hugging Face folder: opened offline by transformers, with equal logits, tokens and text."""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shared import editions, encodings, files, models
from shared.gpt_model import GPTModel, generate_text_simple
from shared.pretraining import load_weights_into_gpt
from shared.text_data import make_encoding, train_bpe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ch05_pretraining"))

import export  # noqa: E402

END = encodings.END_OF_TEXT
# What tokenizers disagree about: kinds of white space, marks without a letter, digits, emoji, half words.
NASTY = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\xa0",
    "\u2003",
    "\u2028",
    "\u200b",
    "\x00",
    "\x1c",
    "\x85",
]
NASTY += [
    "'s",
    "'S",
    "'ll",
    "'",
    "’s",
    " the",
    "ing",
    "Th",
    "a",
    "aaaa",
    "1",
    "23",
    "²",
    "½",
    "Ⅷ",
    "٣",
]
NASTY += [
    "é",
    "e\u0301",
    "ß",
    "ǅ",
    "İ",
    "日本",
    "한",
    "🧜🏽\u200d♀️",
    "\U000e0001",
    "\ufeff",
    "_",
    "—",
    "“",
    "<|",
    END,
]


@pytest.fixture(scope="module", params=[False, True], ids=["course-gpt", "the first model"])
def opened(request, tmp_path_factory):
    """A model of the course, its tokenizer, and both as transformers opens them from the folder."""
    transformers = pytest.importorskip("transformers")
    folder, first = tmp_path_factory.mktemp("hf"), request.param
    export.main([str(folder), *["--first"] * first])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return models.pretrained(first)[0], encodings.tokenizer(first), model, tokenizer


def ids_of(encoding, text):
    return torch.tensor([encoding.encode(text)])


def small(V=300, **changes):
    cfg = {"vocab_size": V, "context_length": 16, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    cfg |= {"drop_rate": 0.1, "qkv_bias": True, "tie_weights": True} | changes
    torch.manual_seed(0)
    model = GPTModel(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model, cfg


@pytest.fixture(scope="module")
def encoding():
    return make_encoding("small", train_bpe("the cat sat on the mat and the hat " * 5, 280, ()))


def test_equal_logits(opened):
    ours, encoding, theirs, _ = opened
    ids = ids_of(encoding, editions.text())[:, :512].view(2, 256)
    with torch.no_grad():
        want = ours(ids)
        assert (theirs(ids).logits - want).abs().max().item() < 1e-5 * want.abs().max().item()
        try:
            gap = (theirs.double()(ids).logits - ours.double()(ids)).abs().max().item()
        finally:
            theirs.float(), ours.float()
    assert gap < 1e-9


def test_equal_greedy_text(opened):
    ours, encoding, theirs, tokenizer = opened
    for prompt in ("The old man opened the door, and", "“No,” said", "1902"):
        ids = ids_of(encoding, prompt)
        want = generate_text_simple(ours, ids, 30, 256)
        got = theirs.generate(ids, max_new_tokens=30, do_sample=False, eos_token_id=None)
        assert got.equal(want)
        assert tokenizer.decode(got[0]) == encoding.decode(want[0].tolist())


def test_generation_stops_at_the_end_of_a_text(opened):
    _, encoding, theirs, tokenizer = opened
    end = encoding.eot_token
    for settings in (theirs.config, theirs.generation_config, tokenizer):
        assert settings.eos_token_id == settings.bos_token_id == end
    with torch.no_grad():
        ending = F.one_hot(torch.tensor([[end]]), end + 1).float()
        hooked = theirs.lm_head.register_forward_hook(lambda *_: ending)
        out = theirs.generate(torch.tensor([[5, 6]]), max_new_tokens=9, do_sample=False)
        hooked.remove()
    assert out.tolist() == [[5, 6, end]]


def test_equal_tokens_for_nasty_text(opened):
    _, encoding, _, tokenizer = opened
    rng = random.Random(123)
    texts = ["", END, f" {END}\n", *NASTY]
    texts += ["".join(rng.choices(NASTY, k=rng.randint(2, 12))) for _ in range(4_000)]
    story = editions.text()
    starts = [rng.randrange(len(story)) for _ in range(300)]
    texts += [story[start : start + rng.randint(1, 80)] for start in starts]
    for text in texts:
        want = encoding.encode(text, allowed_special="all")
        assert tokenizer.encode(text) == want, repr(text)
        assert tokenizer.decode(want) == text


def test_every_token_of_the_vocabulary(opened):
    _, encoding, _, tokenizer = opened
    byte = {letter: b for b, letter in encodings.visible_bytes().items()}
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(encoding.n_vocab)) and len(byte) == 256
    for spelled, i in vocabulary.items():
        if i == encoding.eot_token:
            assert spelled == END
            continue
        token = bytes(byte[letter] for letter in spelled)
        assert encoding.decode_single_token_bytes(i) == token
        text = token.decode("utf-8", errors="replace")
        assert tokenizer.decode([i]) == text
        if "\ufffd" not in text:
            assert tokenizer.encode(text) == encoding.encode_ordinary(text)


def test_merges_are_found_again():
    """The two parts of each token, against the merges that training made, in GPT-2's order of ranks."""
    text = editions.text()[:6000]
    ranks = train_bpe(text, 500, ())
    merged = list(ranks)[256:]
    for token in merged:
        a, b = export.two_parts(token, ranks)
        assert a + b == token and ranks[a] < ranks[token] > ranks[b]
    assert len(merged) == 244
    with pytest.raises(ValueError, match="b'xyz' is no merge"):
        export.two_parts(b"xyz", ranks | {b"xyz": 500})


@pytest.mark.parametrize("changes", [{}, {"tie_weights": False}, {"qkv_bias": False}], ids=str)
def test_other_models_of_ours(changes, encoding, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, cfg = small(encoding.n_vocab, **changes)
    export.export(model, cfg, encoding, tmp_path / "a" / "b")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "b").eval()
    ids = torch.arange(16).unsqueeze(0)
    with torch.no_grad():
        gap = (theirs.double()(ids).logits - model.double()(ids)).abs().max().item()
    assert gap < 1e-9
    assert theirs.config.resid_pdrop == 0.1
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == cfg["tie_weights"]


def test_the_folder_is_read_back_by_our_own_code(encoding, tmp_path):
    model, cfg = small(encoding.n_vocab)
    export.export(model.half(), cfg, encoding, tmp_path)
    params = files.read_weights(tmp_path / "model.safetensors")
    assert {t.dtype for t in params.values()} == {torch.float16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    again = GPTModel(cfg)
    load_weights_into_gpt(again, params)
    state = model.state_dict()
    assert all(torch.equal(t, state[name].float()) for name, t in again.state_dict().items())


def test_a_second_export_replaces_the_first_and_leaves_nothing_else(encoding, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for seed in (0, 1):
        model, cfg = small(encoding.n_vocab)
        with torch.no_grad():
            model.pos_emb.weight.fill_(seed)
        export.export(model, cfg, encoding, tmp_path)
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {
        "tokenizer_config.json",
        "notes.txt",
    }
    params = files.read_weights(tmp_path / "model.safetensors")
    assert (params["transformer.wpe.weight"] == 1).all()


def test_a_tokenizer_that_is_not_the_models(encoding, tmp_path):
    model, cfg = small(encoding.n_vocab + 1)
    with pytest.raises(ValueError, match="do not belong together"):
        export.export(model, cfg, encoding, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    ranks = train_bpe("the cat sat", 258, ())
    two = make_encoding("two", ranks, (END, "<|pad|>"))
    model, cfg = small(two.n_vocab)
    with pytest.raises(ValueError, match="only special token"):
        export.export(model, cfg, two, tmp_path / "hf")


def test_the_command(tmp_path, capsys, monkeypatch):
    export.main([str(tmp_path / "hf")])
    assert capsys.readouterr().out == f"{tmp_path / 'hf'}: 23.7 MB\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="export: .*file"):
        export.main([str(tmp_path / "file")])
    monkeypatch.setenv("COURSE_MODEL", "gpt9")
    with pytest.raises(SystemExit, match="export: COURSE_MODEL is 'gpt9'"):
        export.main([str(tmp_path / "hf")])


@pytest.fixture
def quick(monkeypatch, encoding):
    monkeypatch.setattr(models, "pretrained", lambda first=False: small(encoding.n_vocab))
    monkeypatch.setattr(encodings, "tokenizer", lambda first=False: encoding)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_own_folder_may_be_written_again(quick, tmp_path, capsys):
    export.main([str(tmp_path)])
    (first,) = capsys.readouterr().out.splitlines()
    (tmp_path / "notes.txt").write_bytes(bytes(10**6))
    before = content(tmp_path)
    export.main([str(tmp_path)])
    assert capsys.readouterr().out == f"{first}\n"  # nor do the notes count
    assert content(tmp_path) == before


def course_gpt(folder):
    shutil.copytree(models.COURSE_GPT, folder)


def sources(folder):
    folder.mkdir()
    (folder / "export.py").write_text("import torch")


def a_download(folder):
    export.main([str(folder)])
    (folder / files.SUMS).unlink()


def fine_tuned(folder):
    export.main([str(folder)])
    (folder / files.WEIGHTS).write_bytes(b"trained further")


def nested(folder):
    (folder / "work").mkdir(parents=True)


@pytest.mark.parametrize("fill", [course_gpt, sources, a_download, fine_tuned, nested])
def test_a_folder_of_somebody_is_left_alone(fill, quick, tmp_path):
    folder = tmp_path / "folder"
    fill(folder)
    before = content(folder)
    with pytest.raises(SystemExit, match="export: .*folder is not empty, .*: name a new folder$"):
        export.main([str(folder)])
    assert content(folder) == before
