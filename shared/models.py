"""The finished models: saved, loaded, and asked for by name."""

import json
from pathlib import Path

import requests
import safetensors.torch
from torch import nn

from shared import editions, encodings
from shared.assets import GPT2, AssetError
from shared.files import (
    CONFIG,
    RESTORE,
    WEIGHTS,
    as_json,
    landing_folder,
    read_checked,
    read_weights,
    sha256,
    write_sums,
)
from shared.finite import finite_weights
from shared.gpt_model import GPTModel
from shared.network import answers_in_time, why
from shared.pretraining import gpt2_config, load_weights_into_gpt

COURSE_GPT = editions.ROOT / "ch05_pretraining" / "course_gpt"
FIRST_GPT = COURSE_GPT.with_name("first_gpt")  # which assistant_gpt began as
SPAM_GPT = editions.ROOT / "ch06_classification" / "spam_gpt"
ASSISTANT_GPT = editions.ROOT / "ch07_instruction" / "assistant_gpt"
ANSWER = 10  # seconds that the Hub has to answer at all

# --- by name --------------------------------------------------------------------------------------


def pretrained(first: bool = False):
    """A pretrained `GPTModel`, in float32 and ready to use (dropout off), and its configuration.

    course-gpt, or the course's first model, or for COURSE_MODEL=gpt2 and its larger siblings OpenAI's (Radford et
    al., 2019). Raises ValueError where the stored model is damaged, AssetError where OpenAI's weights are not to be had.
    """
    if (name := editions.choice("COURSE_MODEL")) != "course-gpt":
        return _gpt2(name)
    return (
        load_model(FIRST_GPT, encodings.FIRST_TOKENIZER)
        if first
        else load_model(COURSE_GPT, encodings.COURSE_TOKENIZER)
    )


def classifier():
    """The spam classifier of chapter 6, in float32 and ready to use (dropout off), and its configuration.

    Whatever COURSE_MODEL says it is the course's own, and its tokenizer is `course_encoding()`. Logits `(B, T, 2)` are
    read at a message's last token. The configuration has `classes`, ["ham", "spam"], and `threshold`: from
    that probability of spam on a message counts as spam. Raises ValueError where the stored model is damaged.
    """
    cfg, weights = _stored(SPAM_GPT, encodings.COURSE_TOKENIZER)
    model = GPTModel({key: cfg[key] for key in cfg if key not in ("classes", "threshold")})
    model.out_head = nn.Linear(cfg["emb_dim"], len(cfg["classes"]))
    return filled(model, weights, SPAM_GPT), cfg


def instruction_model():
    """Chapter 7's assistant, in float32 and ready to use (dropout off), and its configuration.

    Ours, with our first tokenizer (`course_encoding(first=True)`), whatever COURSE_MODEL says. ValueError where it is damaged.
    """
    return load_model(ASSISTANT_GPT, encodings.FIRST_TOKENIZER)


# --- in folders -----------------------------------------------------------------------------------


def load_model(folder: Path | str, tokenizer: Path = encodings.COURSE_TOKENIZER):
    """The model of a folder with config.json, model.safetensors and SHA256SUMS, as `pretrained` returns it.

    `tokenizer` is the file of the tokenizer that the model is to be used with, which config.json must name; a model
    with as many tokens as GPT-2 has GPT-2's. ValueError if it was made with another one, or is damaged.
    """
    cfg, weights = _stored(Path(folder), tokenizer)
    if "classes" in cfg:
        raise ValueError(
            f"{folder} holds a classifier, which writes no text: give a language model"
        )
    return filled(GPTModel(cfg), weights, folder), cfg


def save_model(folder: Path, model, cfg: dict, log: str, tokenizer: Path = encodings.COURSE_TOKENIZER,
               run: str = "") -> None:  # fmt: skip
    """Write a model, in half precision, as `load_model` reads it, and the log of its training as log.csv.

    config.json names the tokenizer that the model was made with, SHA256SUMS the `run` that made it, which
    `files.written_by` then knows again. The folder changes only once all files are written.
    """
    weights = {
        name: tensor.half().contiguous().cpu() for name, tensor in model.state_dict().items()
    }
    finite_weights(weights, "in half precision")  # where 65,504 is the largest number
    if cfg.get("tie_weights") and "out_head.weight" in weights:
        del weights["out_head.weight"]  # it is tok_emb.weight
    content = {
        CONFIG: as_json(cfg | {"tokenizer": encodings.tokenizer_name(cfg, tokenizer)}),
        WEIGHTS: safetensors.torch.save(weights),
        "log.csv": log.encode(),
    }
    with landing_folder(folder) as scratch:
        for name, data in content.items():
            (scratch / name).write_bytes(data)
        write_sums(scratch, content, run)


def _stored(folder: Path, tokenizer: Path):
    """config.json and the tensors of a folder, both checked against its SHA256SUMS, and the tokenizer, too."""
    content = read_checked(folder, (CONFIG, WEIGHTS), _without_tokenizer)
    try:
        cfg = json.loads(content[CONFIG])
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}. {RESTORE}") from None
    cfg = encodings.check_tokenizer(cfg, folder, tokenizer)
    try:
        return cfg, safetensors.torch.load(content[WEIGHTS])
    except safetensors.SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}. {RESTORE}") from None


def _without_tokenizer(name: str, content: bytes) -> bytes:
    """config.json as an older folder lists it, to which its tokenizer was added by hand."""
    if name != CONFIG:
        return content
    try:
        return as_json({k: v for k, v in json.loads(content).items() if k != "tokenizer"})
    except (ValueError, AttributeError):  # damaged
        return content


def filled(model, weights, folder: Path):
    """The model with these weights (half precision becomes full), in evaluation mode."""
    try:
        model.load_state_dict(finite_weights(weights, Path(folder) / WEIGHTS))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"config.json and {WEIGHTS} in {folder} do not fit: {reason}") from None
    return model.eval()


# --- from the Hub ---------------------------------------------------------------------------------


def _gpt2(name: str):
    """OpenAI's GPT-2 of that name, from the Hugging Face Hub or its cache, and its configuration."""
    cfg, path = gpt2_config(name), _from_hub(name).resolve()  # in the cache names are links
    try:
        if (wanted := GPT2[name][1]) and (found := sha256(path)) != wanted:
            raise ValueError(f"its SHA-256 is {found}, but should be {wanted}")
        model = GPTModel(cfg)
        load_weights_into_gpt(model, read_weights(path))
    except ValueError as error:
        raise ValueError(f"{path} is not {name}: {error}. Delete it, to get it again") from None
    return model.eval(), cfg


def _from_hub(name: str) -> Path:
    """The weights of a GPT-2. Cache, mirror (HF_ENDPOINT) and resuming are the library's business."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = f"openai-community/{name}", GPT2[name][0]
    try:
        return Path(hf_hub_download(repository, WEIGHTS, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    reason = "HF_HUB_OFFLINE forbids it" if constants.HF_HUB_OFFLINE else ""
    # the library would try for half a minute and more to find out that there is no network
    reason = reason or _no_answer(constants.ENDPOINT)
    if not reason:
        try:
            return Path(hf_hub_download(repository, WEIGHTS, revision=revision))
        except Exception as error:  # of the hub, of its HTTP library, of the disk
            reason = why(error)
    raise AssetError(
        f"The weights of {repository} are not in the cache and cannot be downloaded: {reason}.\n"
        f"  from:     {constants.ENDPOINT}/{repository}, revision {revision}\n"
        f"  by hand:  with a network, hf download {repository} {WEIGHTS} --revision {revision}; then bring the folder\n"
        f"            {constants.HF_HUB_CACHE}\n"
        "  without:  set COURSE_MODEL=course-gpt"
    )


def _no_answer(url: str) -> str:
    """Why a server does not answer, "" if it does."""
    if not url.startswith(("http://", "https://")):
        return f"HF_ENDPOINT is {url!r}, which is no address: it must begin with https://"
    try:
        answers_in_time(lambda: requests.head(url, timeout=ANSWER), ANSWER)
        return ""
    except OSError as error:  # TimeoutError and those of requests, too
        return why(error)
