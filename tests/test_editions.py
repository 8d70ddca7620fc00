"""Editions and encodings: the switches, the tokenizers, the course's files, and the book's on stand-ins of the same format."""

import hashlib
import os

import pytest
from scripts import scripts

from shared import assets, editions, encodings
from shared.text_data import GPT2_SPLIT_PATTERN, make_encoding, train_bpe

(train_tokenizer,) = scripts(editions.CHAPTER_2, "train_tokenizer")

REAL = assets.cache_folder()
EXAMPLE = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace."
ANY_TEXT = [
    "",
    " ",
    "\n\n",
    "I'd've said “no” — twice…",
    "日本語 ελληνικά עברית",
    "🧜🏽‍♀️ 🇬🇧",
    "\x00\x7f\x85",
    "£1,000.50",
]


@pytest.fixture(autouse=True)
def no_switch(monkeypatch, tmp_path):
    for switch in editions.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))


def stand_in(monkeypatch, folder, name, content):
    (folder / name).write_bytes(content)
    asset = assets.FILES[name]
    digest = hashlib.sha256(content).hexdigest()
    changed = assets.Asset(
        "http://127.0.0.1:1/", digest, asset.license, len(content), asset.what, asset.without
    )
    monkeypatch.setitem(assets.FILES, name, changed)


@pytest.mark.parametrize("switch", editions.SWITCHES)
def test_an_unknown_edition(switch, monkeypatch):
    monkeypatch.setenv(switch, "boook")
    with pytest.raises(ValueError) as caught:
        editions.banner()
    for needed in (switch, "'boook'", *editions.SWITCHES[switch]):
        assert needed in str(caught.value)
    with pytest.raises(ValueError, match=switch):
        editions.text() if switch == "COURSE_DATA" else encodings.tokenizer()


def test_an_empty_switch_is_the_default(monkeypatch):
    for switch in editions.SWITCHES:
        monkeypatch.setenv(switch, "")
    assert (
        editions.banner()
        == "data: course (ships with the course); model: course-gpt (4,096 tokens)"
    )


def test_the_switches_are_read_at_every_call(monkeypatch):
    monkeypatch.setenv("COURSE_MODEL", "gpt2-medium")
    assert (
        editions.banner()
        == "data: course (ships with the course); model: gpt2-medium (50,257 tokens)"
    )
    monkeypatch.setenv("COURSE_DATA", "book")
    assert editions.banner() == "data: book (the book's); model: gpt2-medium (50,257 tokens)"


def test_the_story(tmp_path):
    story = editions.text()
    assert story.isascii() and 3_500 <= len(story.split()) <= 4_200
    assert list(tmp_path.iterdir()) == []


def test_the_book_text_on_a_stand_in(monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, "the-verdict.txt", "“He gave it up — why?”\n".encode())
    monkeypatch.setenv("COURSE_DATA", "book")
    assert editions.text() == "“He gave it up — why?”\n"


BOTH = [encodings.COURSE_TOKENIZER, encodings.FIRST_TOKENIZER]
PIECES = {
    "second": ["That", " time", ",", " ", "1", "7", " go", "b", "l", "ins", " laughed", "."],
    "first": ["On", "ce", " upon", " a", " time", ",", " 1", "7", " go", "bl", "ins", " laughed", "."],
}  # fmt: skip
IDS = {
    "second": [1300, 565, 44, 32, 49, 55, 444, 98, 108, 1244, 2824, 46],
    "first": [1861, 360, 676, 258, 557, 44, 2350, 55, 437, 3115, 1145, 1648, 46],
}


@pytest.mark.parametrize("which", PIECES)
def test_the_course_tokenizers(which):
    first = which == "first"
    encoding = encodings.tokenizer(first)
    assert encoding is encodings.tokenizer(first) is encodings.course_encoding(first)
    assert (encoding.name, encoding.n_vocab, encoding.eot_token) == ("course-gpt", 4_096, 4_095)
    assert encoding.encode("<|endoftext|>", allowed_special="all") == [4_095]
    for text in ANY_TEXT:
        assert encoding.decode(encoding.encode_ordinary(text)) == text
    ids = encoding.encode("".join(PIECES[which]))
    assert ids == IDS[which]
    assert [encoding.decode([i]) for i in ids] == PIECES[which]


def test_the_second_tokenizer_cuts_digits_apart_and_the_first_does_not():
    numbers = [f" {number}" for number in range(2000)]
    pieces = [
        {encoding.decode([i]) for text in numbers for i in encoding.encode(text)}
        for encoding in map(encodings.tokenizer, (False, True))
    ]
    assert pieces[0] == {" ", *"0123456789"} and pieces[1] > pieces[0]


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_the_card_describes_the_stored_tokenizer(file):
    """The first one's names the SHA-256 of the file, the second one's that of its header."""
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    stored = file.read_bytes().replace(b"\r\n", b"\n")
    sums = hashlib.sha256(stored).hexdigest(), encodings.tokenizer_sha256(file)
    assert any(digest in card for digest in sums)


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_the_encoding_is_chapter_2s(file):
    """`encodings` calls tiktoken itself; what chapter 2 makes of the same ranks and pattern is equal."""
    ranks, ours = encodings.load_ranks(file), encodings.load_encoding(file)
    theirs = make_encoding("course-gpt", ranks, pattern=ours._pat_str)
    assert encodings.GPT2_PATTERN == GPT2_SPLIT_PATTERN
    assert (ours._pat_str == GPT2_SPLIT_PATTERN) == (file == encodings.FIRST_TOKENIZER)
    for each in ("name", "_pat_str", "_mergeable_ranks", "_special_tokens", "n_vocab"):
        assert getattr(ours, each) == getattr(theirs, each)
    for text in [*ANY_TEXT, EXAMPLE, editions.text()]:
        assert ours.encode(text, allowed_special="all") == theirs.encode(
            text, allowed_special="all"
        )


def test_the_visible_bytes_are_gpt2s():
    """256 different characters; what is seen stands for itself, a space and a new line are Ġ and Ċ."""
    table = encodings.visible_bytes()
    assert sorted(table) == list(range(256)) and len(set(table.values())) == 256
    assert all(chr(b) == table[b] for b in range(33, 127))
    assert (table[ord(" ")], table[ord("\n")], table[0xAD]) == ("Ġ", "Ċ", "Ń")
    assert list(table)[:2] == [33, 34] and list(table)[188] == 0  # the order of GPT-2's ranks


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_a_course_tokenizer_is_a_byte_pair_encoding(file):
    """Every merged token splits into two earlier ones; none comes twice."""
    ranks = encodings.load_ranks(file)
    assert list(ranks.values()) == list(range(4_095))
    for token, rank in list(ranks.items())[256:]:
        halves = ((token[:i], token[i:]) for i in range(1, len(token)))
        assert any(ranks.get(a, rank) < rank and ranks.get(b, rank) < rank for a, b in halves)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("b' the'\n", "b' teh'\n"),
        lambda text: text.replace("b' the'\n", "print('no')\n"),
        lambda text: text.partition("b'")[0],
        lambda text: "\n".join(text.splitlines()[4:]),
    ],
    ids=["empty", "cut", "a letter", "code", "header only", "no header"],
)
@pytest.mark.parametrize("first", [False, True], ids=["second", "first"])
def test_a_damaged_course_tokenizer(damage, first, monkeypatch, tmp_path):
    name = "FIRST_TOKENIZER" if first else "COURSE_TOKENIZER"
    text = getattr(encodings, name).read_text(encoding="utf-8")
    (tmp_path / "tokens.txt").write_text(damage(text), encoding="utf-8")
    monkeypatch.setattr(encodings, name, tmp_path / "tokens.txt")
    with pytest.raises(ValueError, match="tokens.txt is missing or damaged.*git checkout"):
        encodings.tokenizer(first)


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_windows_line_ends_are_no_damage(file, tmp_path):
    (tmp_path / "tokens.txt").write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    ours, theirs = encodings.load_encoding(tmp_path / "tokens.txt"), encodings.load_encoding(file)
    assert encodings.load_ranks(tmp_path / "tokens.txt") == encodings.load_ranks(file)
    assert ours._pat_str == theirs._pat_str


def test_a_tokenizer_file_without_a_pattern_is_as_it_was(tmp_path):
    path = tmp_path / "tokens.txt"
    ranks = encodings.load_ranks(encodings.FIRST_TOKENIZER)
    train_tokenizer.save_ranks(path, ranks, ["A note."])
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    assert [first, *lines] == [
        "# A note.",
        *encodings.FIRST_TOKENIZER.read_text().splitlines()[3:],
    ]
    assert encodings.tokenizer_sha256(path) == lines[0].split()[-1]
    assert encodings.load_encoding(path)._pat_str == GPT2_SPLIT_PATTERN


def test_a_tokenizer_file_with_a_pattern(tmp_path):
    plain, apart = tmp_path / "plain.txt", tmp_path / "apart.txt"
    ranks = train_bpe("In 1996 and 1997. " * 9, 270, pattern=train_tokenizer.DIGITS_APART)
    train_tokenizer.save_ranks(plain, ranks, ["A note."])
    train_tokenizer.save_ranks(apart, ranks, ["A note."], train_tokenizer.DIGITS_APART)
    assert encodings.tokenizer_sha256(plain) != encodings.tokenizer_sha256(apart)
    assert encodings.load_ranks(plain) == encodings.load_ranks(apart) == ranks
    encoding = encodings.load_encoding(apart, name="apart")
    assert encoding is encodings.load_encoding(apart, name="apart")
    assert (encoding.name, encoding.n_vocab) == ("apart", len(ranks) + 1)
    assert encoding._pat_str == train_tokenizer.DIGITS_APART
    (line,) = [line for line in apart.read_text().splitlines() if "Split pattern" in line]
    assert line == f"# Split pattern: {train_tokenizer.DIGITS_APART!r}"
    for old, new in ((r"\\p{N}|", r" ?\\p{N}+|"), (line + "\n", "")):
        changed = apart.read_text().replace(old, new)
        assert changed != apart.read_text()
        (tmp_path / "damaged.txt").write_text(changed)
        for call in (encodings.load_ranks, encodings.load_encoding, encodings.tokenizer_sha256):
            with pytest.raises(ValueError, match="damaged.txt is missing or damaged"):
                call(tmp_path / "damaged.txt")


@pytest.mark.parametrize("model", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_gpt2_tokenizer_on_a_stand_in(model, gpt2_like, monkeypatch, tmp_path):
    ranks, merges, vocabulary = gpt2_like
    stand_in(monkeypatch, tmp_path, "vocab.bpe", merges)
    stand_in(monkeypatch, tmp_path, "encoder.json", vocabulary)
    monkeypatch.setenv("COURSE_MODEL", model)
    encoding = encodings.tokenizer()
    assert encoding is encodings.gpt2_encoding()
    assert (encoding.name, encoding.n_vocab, encoding.eot_token) == ("gpt2", 50_257, 50_256)
    reference = make_encoding("reference", ranks, ("<|endoftext|>",))
    for text in [*ANY_TEXT, EXAMPLE, "the hat sat"]:
        assert encoding.encode_ordinary(text) == reference.encode_ordinary(text)
        assert encoding.decode(encoding.encode_ordinary(text)) == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "vocab.bpe"]


def test_gpt2_files_that_do_not_belong_together(gpt2_like, monkeypatch, tmp_path):
    _, merges, vocabulary = gpt2_like
    lines = merges.splitlines(keepends=True)
    stand_in(monkeypatch, tmp_path, "vocab.bpe", b"".join(lines[:-1]))
    stand_in(monkeypatch, tmp_path, "encoder.json", vocabulary)
    with pytest.raises(ValueError, match="50,257"):
        encodings.gpt2_encoding()


def test_the_book_edition_without_a_network(monkeypatch):
    for name, asset in assets.FILES.items():
        monkeypatch.setitem(
            assets.FILES, name, assets.Asset(**{**vars(asset), "url": "http://127.0.0.1:1/" + name})
        )
    for switch, value, call in (
        ("COURSE_DATA", "book", editions.text),
        ("COURSE_MODEL", "gpt2", encodings.tokenizer),
    ):
        monkeypatch.setenv(switch, value)
        with pytest.raises(assets.AssetError, match=rf"{switch}=course"):
            call()


@pytest.fixture
def real_files(monkeypatch):
    missing = [name for name in assets.FILES if not (REAL / name).exists()]
    if missing:
        pytest.skip(f"not in COURSE_CACHE: {', '.join(missing)}")
    monkeypatch.setenv("COURSE_CACHE", str(REAL))
    monkeypatch.setenv("COURSE_DATA", "book")
    monkeypatch.setenv("COURSE_MODEL", "gpt2")


def test_the_real_book_edition(real_files):
    """The book's figures: 20,479 characters, 5,145 tokens, and the IDs of its example sentence."""
    encoding, story = encodings.tokenizer(), editions.text()
    assert len(story) == 20_479
    assert len(encoding.encode(story)) == 5_145
    ids = encoding.encode(EXAMPLE, allowed_special={"<|endoftext|>"})
    assert ids[:8] == [15496, 11, 466, 345, 588, 8887, 30, 220] and ids[8] == 50256
    assert encoding.decode(ids) == EXAMPLE


def test_the_real_encoding_is_tiktokens(real_files, monkeypatch):
    load = pytest.importorskip("tiktoken.load")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # no copies in the folder for temporary files
    expected = load.data_gym_to_mergeable_bpe_ranks(
        *(os.fspath(REAL / n) for n in ("vocab.bpe", "encoder.json"))
    )
    encoding = encodings.gpt2_encoding()
    assert all(encoding.encode_single_token(token) == rank for token, rank in expected.items())


def test_the_books_messages_on_a_stand_in(monkeypatch, tmp_path):
    odd = ['he said "so', "a\ttab", "null", "£5 – naïve\x85 line?", "same", "same", "x" * 900]
    lines = [f"ham\t{text}" for text in odd] + [f"spam\tWIN no {i}" for i in range(93)]
    stand_in(monkeypatch, tmp_path, "SMSSpamCollection", ("\n".join(lines) + "\n").encode())
    monkeypatch.setenv("COURSE_DATA", "book")
    table = editions.messages()
    assert list(table.columns) == ["label", "text", "hard", "split"]
    assert table.text.tolist() == [line.split("\t", 1)[1] for line in lines]
    assert table.label.value_counts().to_dict() == {"spam": 93, "ham": 7} and not table.hard.any()
    assert table.split.value_counts().to_dict() == {"train": 70, "test": 20, "validation": 10}
    assert set(table.split[table.text == "same"]) == {"train"}
    assert table.split.equals(editions.messages().split)


@pytest.mark.skipif(not (REAL / "SMSSpamCollection").exists(), reason="not in COURSE_CACHE")
def test_the_books_messages(monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(REAL))
    monkeypatch.setenv("COURSE_DATA", "book")
    table = editions.messages()
    assert len(table) == 5574 and (table.label == "spam").sum() == 747
    assert table.text.duplicated().sum() == 403
