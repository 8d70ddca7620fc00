"""Which data and which model the notebooks get: read here, and nowhere else.

Two environment variables choose, each on its own; both are read at every call:

COURSE_DATA   course (default): what ships with the course; book: what the book uses, downloaded once
COURSE_MODEL  course-gpt (default): our tokenizer and model; gpt2, gpt2-medium, gpt2-large, gpt2-xl: OpenAI's
"""

import ast
import functools
import hashlib
import io
import json
import os
import queue
import random
import tempfile
from pathlib import Path
from threading import Thread

import tiktoken

from shared import assets

CHAPTER_2 = Path(__file__).parent.parent / "ch02_text_data"
STORY = CHAPTER_2 / "the-prompt-corner.txt"
COURSE_TOKENIZER = CHAPTER_2 / "course_tokenizer.txt"
COURSE_TOKENIZER_2 = CHAPTER_2 / "course_tokenizer_2.txt"
MESSAGES = Path(__file__).parent.parent / "ch06_classification" / "messages.csv"
INSTRUCTIONS = Path(__file__).parent.parent / "ch07_instruction" / "instructions.json"
COURSE_GPT = Path(__file__).parent.parent / "ch05_pretraining" / "course_gpt"
SPAM_GPT = Path(__file__).parent.parent / "ch06_classification" / "spam_gpt"
ASSISTANT_GPT = Path(__file__).parent.parent / "ch07_instruction" / "assistant_gpt"

# the first value of each is the default
SWITCHES = {
    "COURSE_DATA": ("course", "book"),
    "COURSE_MODEL": ("course-gpt", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
}
END_OF_TEXT = "<|endoftext|>"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
# how two lines of a tokenizer's file begin; the pattern's stands below the checksum's, which is of it, too
SPLIT_PATTERN = "# Split pattern: "
CHECKSUM = "# SHA-256 of the lines below: "
CUT_OFF = "is damaged or cut off: get it again"
RESTORE = "Restore the folder (git checkout)."
GPT2_TOKENS = 50_257
ANSWER = 10  # seconds that the Hub has to answer at all


def choice(switch: str) -> str:
    """The value in force of COURSE_DATA or COURSE_MODEL; ValueError if it is not a known one."""
    known = SWITCHES[switch]
    value = os.environ.get(switch) or known[0]
    if value not in known:
        raise ValueError(f"{switch} is {value!r}, which is not known; it can be {', '.join(known)}")
    return value


def banner() -> str:
    """One line that says which edition is in force, for a notebook's first output."""
    data, model = choice("COURSE_DATA"), choice("COURSE_MODEL")
    kind = "ships with the course" if data == "course" else "the book's"
    encoding = "4,096 tokens" if model == "course-gpt" else f"{GPT2_TOKENS:,} tokens"
    return f"data: {data} ({kind}); model: {model} ({encoding})"


def text() -> str:
    """The text to learn from: the course's story, or The Verdict (COURSE_DATA=book).

    Raises AssetError where The Verdict is not to be had.
    """
    path = STORY if choice("COURSE_DATA") == "course" else assets.fetch("the-verdict.txt")
    return path.read_text(encoding="utf-8")


def messages():
    """Text messages, a DataFrame: label (ham, spam), text, hard (bool), split (train, validation, test).

    The course's own, or the SMS Spam Collection (COURSE_DATA=book; none of it is marked as hard), split at
    random, 70/10/20, with every text that occurs twice in the training part.
    Raises AssetError where the collection is not to be had (Almeida, Hidalgo and Yamakami, 2011).
    """
    import pandas as pd

    if choice("COURSE_DATA") == "course":
        return pd.read_csv(MESSAGES, keep_default_na=False)  # "null" is a message
    # read as lines, not as CSV: quotation marks stand for themselves
    lines = assets.fetch("SMSSpamCollection").read_text(encoding="utf-8").rstrip("\n").split("\n")
    table = pd.DataFrame([line.split("\t", 1) for line in lines], columns=["label", "text"])
    once = table.index[~table.text.duplicated(keep=False)].tolist()
    random.Random(123).shuffle(once)
    test, validation = round(0.2 * len(table)), round(0.1 * len(table))
    table = table.assign(hard=False, split="train")
    table.loc[once[:test], "split"] = "test"
    table.loc[once[test : test + validation], "split"] = "validation"
    return table


def instructions() -> list[dict]:
    """Tasks with their answers, dicts: instruction, input, output, family, split, accept.

    `split` is train, validation or test; `accept` lists other right answers. The course's own, or the book's
    (COURSE_DATA=book; family "book", split 85/5/10 by place in the file: its test part stands in the middle).
    Raises AssetError where the book's are not to be had, ValueError where a file is not such a list.
    """
    if choice("COURSE_DATA") == "course":
        return read_instructions(
            INSTRUCTIONS, ("instruction", "input", "output", "family", "split")
        )
    entries = read_instructions(assets.fetch("instruction-data.json"))
    train, test = int(0.85 * len(entries)), int(0.1 * len(entries))
    splits = ["train"] * train + ["test"] * test + ["validation"] * (len(entries) - train - test)
    return [entry | {"family": "book", "split": split} for entry, split in zip(entries, splits)]


def read_instructions(
    path: Path, keys: tuple[str, ...] = ("instruction", "input", "output")
) -> list[dict]:
    """The entries of a JSON file; each with `accept`, an empty list where the file has none.

    Raises ValueError if it is not a list of objects with these keys, all strings, and an instruction.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds no list of entries, but {type(entries).__name__}")
    for i, entry in enumerate(entries):
        found = entry if isinstance(entry, dict) else {}
        for key in keys:
            if not isinstance(found.get(key), str):
                raise ValueError(f"{path}: entry {i} has no text under {key!r}")
        if not found["instruction"].strip():
            raise ValueError(f"{path}: entry {i} has an empty instruction")
    return [{"accept": []} | entry for entry in entries]


def tokenizer() -> tiktoken.Encoding:
    """The model's tokenizer: the course's own, or GPT-2's for COURSE_MODEL=gpt2 and its larger siblings.

    Raises ValueError where the stored tokenizer is damaged, AssetError where GPT-2's files are not to be had.
    """
    return course_encoding() if choice("COURSE_MODEL") == "course-gpt" else gpt2_encoding()


def course_encoding() -> tiktoken.Encoding:
    """The course's encoding of 4,096 tokens, whatever the edition; built once.

    Raises ValueError where the stored tokenizer is damaged.
    """
    return load_encoding(COURSE_TOKENIZER)


def gpt2_encoding() -> tiktoken.Encoding:
    """GPT-2's encoding of 50,257 tokens, whatever the edition; built once.

    Raises AssetError where its two files are not to be had (Radford et al., 2019).
    """
    return _gpt2_encoding(assets.fetch("vocab.bpe"), assets.fetch("encoder.json"))


def pretrained():
    """A pretrained `GPTModel`, in float32 and ready to use (dropout off), and its configuration.

    course-gpt, or for COURSE_MODEL=gpt2 and its larger siblings OpenAI's (Radford et al., 2019). Raises ValueError
    where the stored model is damaged, AssetError where OpenAI's weights are not to be had.
    """
    model = choice("COURSE_MODEL")
    return load_model(COURSE_GPT, COURSE_TOKENIZER) if model == "course-gpt" else _gpt2(model)


def classifier():
    """The spam classifier of chapter 6, in float32 and ready to use (dropout off), and its configuration.

    Whatever COURSE_MODEL says it is the course's own, and its tokenizer is `course_encoding()`. Logits `(B, T, 2)`
    are read at a message's last token. The configuration has `classes`, ["ham", "spam"], and `threshold`: from
    that probability of spam on a message counts as spam. Raises ValueError where the stored model is damaged.
    """
    from torch import nn

    from shared.gpt_model import GPTModel

    cfg, weights = _stored(SPAM_GPT, COURSE_TOKENIZER)
    model = GPTModel({key: cfg[key] for key in cfg if key not in ("classes", "threshold")})
    model.out_head = nn.Linear(cfg["emb_dim"], len(cfg["classes"]))
    return filled(model, weights, SPAM_GPT), cfg


def instruction_model():
    """Chapter 7's assistant, in float32 and ready to use (dropout off), and its configuration.

    Ours, with our tokenizer (`course_encoding`), whatever COURSE_MODEL says. ValueError where it is damaged.
    """
    return load_model(ASSISTANT_GPT, COURSE_TOKENIZER)


def load_model(folder: Path, tokenizer: Path = COURSE_TOKENIZER):
    """The model of a folder with config.json, model.safetensors and SHA256SUMS, as `pretrained` returns it.

    `tokenizer` is the file of the tokenizer that the model is to be used with, which config.json must name; a model
    with as many tokens as GPT-2 has GPT-2's. ValueError if it was made with another one, or is damaged.
    """
    # here, because PyTorch is slow to import and chapter 2 asks for texts only
    from shared.gpt_model import GPTModel

    cfg, weights = _stored(folder, tokenizer)
    return filled(GPTModel(cfg), weights, folder), cfg


def save_model(
    folder: Path, model, cfg: dict, log: str, tokenizer: Path = COURSE_TOKENIZER
) -> None:
    """Write a model, in half precision, as `load_model` reads it, and the log of its training as log.csv.

    config.json names the tokenizer that the model was made with. The folder changes only once all files are written.
    """
    import safetensors.torch

    weights = {
        name: tensor.half().contiguous().cpu() for name, tensor in model.state_dict().items()
    }
    if cfg.get("tie_weights") and "out_head.weight" in weights:
        del weights["out_head.weight"]  # it is tok_emb.weight
    content = {
        CONFIG: as_json(cfg | {"tokenizer": tokenizer_name(cfg, tokenizer)}),
        WEIGHTS: safetensors.torch.save(weights),
        "log.csv": log.encode(),
    }
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for name, data in (content | {"SHA256SUMS": "".join(sums).encode()}).items():
            Path(scratch, name).write_bytes(data)
        folder.mkdir(exist_ok=True)
        for path in Path(scratch).iterdir():
            path.replace(folder / path.name)


def _stored(folder: Path, tokenizer: Path):
    """config.json and the tensors of a folder, both checked against its SHA256SUMS, and the tokenizer, too."""
    import safetensors.torch

    try:
        sums = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        content = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}. {RESTORE}") from None
    for name, data in content.items():
        # config.json may also be the listed one and, added by hand to an older folder, its tokenizer
        forms = [data, _without_tokenizer(data)] if name == CONFIG else [data]
        if not any(f"{hashlib.sha256(form).hexdigest()}  {name}" in sums for form in forms):
            raise ValueError(
                f"{folder / name} is damaged: not the SHA-256 it should have. {RESTORE}"
            )
    cfg = check_tokenizer(json.loads(content[CONFIG]), folder, tokenizer)
    try:
        return cfg, safetensors.torch.load(content[WEIGHTS])
    except safetensors.SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}. {RESTORE}") from None


def as_json(cfg: dict) -> bytes:
    """A configuration as config.json holds it."""
    return json.dumps(cfg, indent=2).encode() + b"\n"


def _without_tokenizer(config: bytes) -> bytes:
    try:
        return as_json({k: v for k, v in json.loads(config).items() if k != "tokenizer"})
    except (ValueError, AttributeError):  # damaged
        return config


def tokenizer_name(cfg: dict, tokenizer: Path) -> str:
    """What a model's config.json calls its tokenizer: the checksum of its file, or gpt2 where it has GPT-2's size."""
    return "gpt2" if cfg.get("vocab_size") == GPT2_TOKENS else tokenizer_sha256(tokenizer)


def check_tokenizer(cfg: dict, folder: Path, tokenizer: Path) -> dict:
    """The configuration in a model's folder without its entry `tokenizer`; ValueError unless that names this one."""
    made_with, wanted = cfg.get("tokenizer"), tokenizer_name(cfg, tokenizer)
    if made_with is None:
        first = tokenizer_name(cfg, COURSE_TOKENIZER)
        raise ValueError(
            f"{folder / CONFIG} names no tokenizer: the model was made with an older version of the course, where "
            f"all of this size had {_called(first)}. To go on using it with that one, add "
            f'"tokenizer": "{first}" to the file; else train the model again.'
        )
    if made_with != wanted:
        raise ValueError(
            f"{folder} holds a model made with another tokenizer: {_called(made_with)}, not {_called(wanted)}. "
            "Use it with its own (load_model's `tokenizer`), or train the model again with this one."
        )
    return {key: value for key, value in cfg.items() if key != "tokenizer"}


def _called(name: str) -> str:
    """A tokenizer for messages: the first digits of its checksum, and its file where it is one that ships."""
    if name == "gpt2":
        return "GPT-2's tokenizer"
    for path in (COURSE_TOKENIZER, COURSE_TOKENIZER_2):
        if path.exists() and tokenizer_sha256(path) == name:
            return f"{path.name} ({name[:12]})"
    return f"one that the course does not know ({str(name)[:12]})"


def filled(model, weights, folder: Path):
    """The model with these weights (half precision becomes full), in evaluation mode."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"config.json and {WEIGHTS} in {folder} do not fit: {reason}") from None
    return model.eval()


def read_saved(path: Path):
    """What torch.save wrote. Nothing in it is run, and its checksums are compared, which torch.load does not do.

    ValueError where it cannot be read, is damaged, or holds more than tensors and plain values.
    """
    import pickle
    import zipfile

    import torch

    try:
        content = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if zipfile.is_zipfile(content) and (part := zipfile.ZipFile(content).testzip()):
            raise zipfile.BadZipFile(part)
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message explains how to run the code
        raise ValueError(
            f"{path} is not opened: it holds more than tensors, and would run code"
        ) from None
    except Exception:  # nonsense makes torch's reader fail in many ways
        raise ValueError(f"{path} {CUT_OFF}") from None


def read_weights(path: Path):
    """The tensors of a .safetensors file, or of one that torch.save wrote, by name: `dict[str, Tensor]`.

    No code in it is run. ValueError where it cannot be read, is damaged, or holds anything but tensors by name.
    """
    import safetensors.torch
    import torch

    if Path(path).suffix != ".safetensors":
        found = read_saved(path)
    else:
        try:
            found = safetensors.torch.load_file(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        except safetensors.SafetensorError:
            raise ValueError(f"{path} {CUT_OFF}") from None
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise ValueError(f"{path} holds something else than tensors by name")
    return found


def load_ranks(path: Path) -> dict[bytes, int]:
    """The ranks stored by `ch02_text_data/train_tokenizer.py`: 256 bytes, then the merged tokens in order.

    ValueError if the file is damaged: its header holds the SHA-256 of the lines below it.
    """
    merged = [ast.literal_eval(line) for line in _tokenizer(path)[1] if not line.startswith("#")]
    return {token: rank for rank, token in enumerate([bytes([b]) for b in range(256)] + merged)}


def tokenizer_sha256(path: Path) -> str:
    """The checksum in a tokenizer file's header, by which models name it: of its merges, and its split pattern if given.

    ValueError if the file is damaged.
    """
    return _tokenizer(path)[0]


@functools.cache
def load_encoding(path: Path, name: str = "course-gpt") -> tiktoken.Encoding:
    """The encoding of a tokenizer file, with the split pattern that it names, else GPT-2's; built once.

    ValueError if the file is damaged.
    """
    from shared.text_data import GPT2_SPLIT_PATTERN, make_encoding  # which imports this module

    named = [line for line in _tokenizer(path)[1] if line.startswith(SPLIT_PATTERN)]
    patterns = [ast.literal_eval(line.removeprefix(SPLIT_PATTERN)) for line in named]
    pattern = patterns[0] if patterns else GPT2_SPLIT_PATTERN
    return make_encoding(name, load_ranks(path), (END_OF_TEXT,), pattern=pattern)


def _tokenizer(path: Path) -> tuple[str, list[str]]:
    """The checksum of a tokenizer file, and the lines that it is of."""
    try:
        checksum, *lines = path.read_text(encoding="utf-8").partition(CHECKSUM)[2].splitlines()
        # of the lines, not of the file: a checkout on Windows may end them otherwise
        if _sha256(lines) != checksum:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(
            f"{path} is missing or damaged: its lines do not have the SHA-256 that its header names. "
            "Restore it (git checkout), or train it again with train_tokenizer.py."
        ) from None
    return checksum, lines


def _sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _gpt2(name: str):
    """OpenAI's GPT-2 of that name, from the Hugging Face Hub or its cache, and its configuration."""
    from shared.gpt_model import GPTModel
    from shared.pretraining import gpt2_config, load_weights_into_gpt

    cfg, path = gpt2_config(name), _from_hub(f"openai-community/{name}")
    model = GPTModel(cfg)
    try:
        load_weights_into_gpt(model, read_weights(path))
    except ValueError as error:
        raise ValueError(f"{path} is not {name}: {error}. Delete it, to get it again") from None
    return model.eval(), cfg


def _from_hub(repository: str) -> Path:
    """The weights of a model on the Hub. Cache, mirror (HF_ENDPOINT) and resuming are the library's business."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, WEIGHTS, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    reason = "HF_HUB_OFFLINE forbids it" if constants.HF_HUB_OFFLINE else ""
    # the library would try for half a minute and more to find out that there is no network
    reason = reason or _no_answer(constants.ENDPOINT)
    if not reason:
        try:
            return Path(hf_hub_download(repository, WEIGHTS))
        except Exception as error:  # of the hub, of its HTTP library, of the disk
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise assets.AssetError(
        f"The weights of {repository} are not in the cache and cannot be downloaded: {reason}.\n"
        f"  from:     {constants.ENDPOINT}/{repository}\n"
        f"  by hand:  with a network, hf download {repository} {WEIGHTS}; then bring the folder\n"
        f"            {constants.HF_HUB_CACHE}\n"
        "  without:  set COURSE_MODEL=course-gpt"
    )


def _no_answer(url: str) -> str:
    """Why a server does not answer, "" if it does. Asked in a thread: looking up a name has no time limit."""
    import requests

    answers = queue.Queue()

    def ask():
        try:
            requests.head(url, timeout=ANSWER)
            answers.put("")
        except requests.RequestException:
            answers.put("no connection (is there a network?)")

    Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=ANSWER)
    except queue.Empty:
        return "no answer in time (is there a network?)"


@functools.cache
def _gpt2_encoding(merges: Path, vocabulary: Path) -> tiktoken.Encoding:
    """From the original files, in which every byte is written as one visible character.

    tiktoken has a reader for them, but it leaves copies in the folder for temporary files.
    """
    from shared.text_data import make_encoding

    visible = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    hidden = [b for b in range(256) if b not in visible]
    byte = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}

    lines = merges.read_text(encoding="utf-8").splitlines()[1:]  # the first names a version
    tokens = list(byte) + [line.replace(" ", "") for line in lines]
    known = json.loads(vocabulary.read_text(encoding="utf-8"))
    if {token: rank for rank, token in enumerate([*tokens, END_OF_TEXT])} != known or len(
        known
    ) != GPT2_TOKENS:
        raise ValueError(
            f"{merges} and {vocabulary} do not describe the same {GPT2_TOKENS:,} tokens"
        )
    ranks = {bytes(byte[char] for char in token): rank for rank, token in enumerate(tokens)}
    return make_encoding("gpt2", ranks, (END_OF_TEXT,))


# --- the finished models, for chapter 1 ---


def complete(
    prompt: str, max_new_tokens: int = 40, temperature: float = 0.8, seed: int = 123
) -> str:
    """The prompt and what the pretrained model writes after it, up to an end of text. The same seed, the same text.

    Drawn from the 40 likeliest tokens each time; temperature 0: the likeliest. ValueError for an empty prompt.
    """
    import torch

    from shared.pretraining import generate, text_to_token_ids, token_ids_to_text

    model, cfg = _kept(pretrained, choice("COURSE_MODEL"))
    encoding = tokenizer()
    ids = text_to_token_ids(prompt, encoding)
    with torch.random.fork_rng(devices=[]):  # whoever draws besides is not disturbed
        torch.manual_seed(seed)
        settings = {"temperature": temperature, "top_k": 40, "eos_id": encoding.eot_token}
        ids = generate(model, ids, max_new_tokens, cfg["context_length"], **settings)
    return token_ids_to_text(ids, encoding)


def answer(instruction: str, input: str = "") -> str:
    """What chapter 7's assistant answers to an instruction, with its input if it has one: ours, in any edition.

    ValueError for an empty instruction, or where the model is damaged.
    """
    from shared.instruction import stream_response

    model, _ = _kept(instruction_model, "course-gpt")
    entry = {"instruction": instruction, "input": input}
    return "".join(stream_response(model, entry, course_encoding()))


def spam_probability(message: str) -> float:
    """How likely a message is spam, 0 to 1, by chapter 6's classifier: ours, in any edition.

    ValueError for an empty message, or where the model is damaged.
    """
    import torch

    from shared import classification

    model, _ = _kept(classifier, "course-gpt")
    encoding, device = course_encoding(), torch.device("cpu")
    pad = encoding.eot_token
    return classification.spam_probability(message, model, encoding, device, pad_token_id=pad)


@functools.cache
def _kept(load, model: str):
    """What load() returned for this COURSE_MODEL the first time: for those that ask again and change nothing."""
    return load()
