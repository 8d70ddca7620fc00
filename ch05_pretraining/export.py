"""Write a model and its tokenizer as a Hugging Face folder, which other programs can open.

    python ch05_pretraining/export.py FOLDER

writes the pretrained model that the course uses (course-gpt, or the one that COURSE_MODEL names). Afterwards
`transformers.AutoModelForCausalLM.from_pretrained(FOLDER)` and `AutoTokenizer.from_pretrained(FOLDER)` give
the same logits, tokens and text, without a network. With --first it is the course's first model, on which chapters
6 and 7 and appendix E build. A folder that holds anything but an earlier export is left alone.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import safetensors.torch
import tiktoken
import torch

from shared import encodings, models
from shared.assets import AssetError
from shared.encodings import END_OF_TEXT, visible_bytes
from shared.files import WEIGHTS, landing_folder, write_sums, written_by
from shared.gpt_model import GPTModel
from shared.pretraining import gpt2_views
from shared.text_data import merge_pair

WRITER = "ch05_pretraining/export.py"


def two_parts(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that were joined to make this one: byte pair encoding with lower ranks alone.

    ValueError where there are no such two.
    """
    parts, limit = [bytes([byte]) for byte in token], ranks[token]
    while len(parts) > 2:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair[0] + pair[1], limit))
        if ranks.get(best[0] + best[1], limit) >= limit:
            raise ValueError(f"the token {token!r} is no merge of two tokens with lower ranks")
        parts = merge_pair(parts, best)
    return parts[0], parts[1]


def tokenizer_json(encoding: tiktoken.Encoding) -> dict:
    """The content of tokenizer.json for a byte-level BPE with one special token, and the encoding's split pattern."""
    letter, end = visible_bytes(), encoding.eot_token
    ranks = {encoding.decode_single_token_bytes(i): i for i in range(end)}
    if encoding.n_vocab != end + 1:
        raise ValueError(f"{END_OF_TEXT} must be the only special token, and the last one")

    def spell(token: bytes) -> str:
        return "".join(letter[byte] for byte in token)

    merged = [token for token in ranks if len(token) > 1]
    look = {"add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    byte_level = {"type": "ByteLevel"} | look  # use_regex: GPT-2's split pattern
    if encoding._pat_str == encodings.GPT2_PATTERN:
        split = byte_level
    else:
        pattern = {"Regex": encoding._pat_str}
        chunks = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        parts = [chunks, byte_level | {"use_regex": False}]
        split = {"type": "Sequence", "pretokenizers": parts}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [{"id": end, "content": END_OF_TEXT, "special": True} | special],
        "pre_tokenizer": split,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {spell(token): rank for token, rank in ranks.items()} | {END_OF_TEXT: end},
            "merges": [[spell(part) for part in two_parts(token, ranks)] for token in merged],
        },
    }


def gpt2_weights(model: GPTModel) -> dict[str, torch.Tensor]:
    """The model's tensors by Hugging Face's names; a tied head is left out, missing biases are 0."""
    found = {}
    for name, parts in gpt2_views(model).items():
        if name.endswith("attn.c_attn.bias") and parts[0] is None:
            width = model.tok_emb.embedding_dim
            parts = [torch.zeros(3 * width, dtype=model.tok_emb.weight.dtype)]
        found[f"transformer.{name}"] = torch.cat([part.detach() for part in parts], -1).contiguous()
    head = found.pop("transformer.lm_head.weight")
    tied = model.out_head.weight is model.tok_emb.weight
    return found if tied else found | {"lm_head.weight": head}


def configurations(cfg: dict, dtype: torch.dtype, end: int) -> dict[str, dict]:
    """The small files: what the model is, how it writes, what its tokenizer is called."""
    ends = {"bos_token_id": end, "eos_token_id": end}
    rates = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), cfg["drop_rate"])
    model = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": cfg["vocab_size"],
        "n_positions": cfg["context_length"],
        "n_embd": cfg["emb_dim"],
        "n_head": cfg["n_heads"],
        "n_layer": cfg["n_layers"],
        "activation_function": "gelu_new",  # the tanh form
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": cfg.get("tie_weights", False),
        "dtype": str(dtype).removeprefix("torch."),
    }
    tokenizer = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": cfg["context_length"],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    } | dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    return {
        "config.json": model | rates | ends,
        "generation_config.json": ends | {"pad_token_id": end},
        "tokenizer_config.json": tokenizer,
    }


def export(model: GPTModel, cfg: dict, encoding: tiktoken.Encoding, folder: Path) -> list[str]:
    """Write model and tokenizer to a folder, made if need be; the names of the files, each whole or not there.

    ValueError where the tokenizer is not the model's.
    """
    if encoding.n_vocab != cfg["vocab_size"]:
        have = f"the tokenizer has {encoding.n_vocab:,} tokens"
        raise ValueError(f"{have}, the model {cfg['vocab_size']:,}: they do not belong together")
    files = configurations(cfg, model.tok_emb.weight.dtype, encoding.eot_token)
    files["tokenizer.json"] = tokenizer_json(encoding)
    with landing_folder(folder) as scratch:
        weights = scratch / WEIGHTS
        safetensors.torch.save_file(gpt2_weights(model), weights, metadata={"format": "pt"})
        for name, content in files.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (scratch / name).write_text(text, encoding="utf-8")
    return [WEIGHTS, *files]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--first", action="store_true", help="the course's first model")
    options = parser.parse_args(arguments)
    folder = options.folder
    try:
        written_by(WRITER, folder)
        model, cfg = models.pretrained(options.first)
        names = export(model, cfg, encodings.tokenizer(options.first), folder)
        write_sums(folder, names, WRITER)
    except (ValueError, OSError, AssetError) as error:
        sys.exit(f"export: {error}")
    size = sum((folder / name).stat().st_size for name in names)
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
