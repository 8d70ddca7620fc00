"""Chapter 5: pretraining. Promoted from ch05_pretraining/ch05.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import io
import itertools
import math
import re
import warnings

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from shared import checkpoints, files
from shared.finite import checked_loss, finite_logits, finite_weights, whole_number
from shared.gpt_model import GPT_CONFIG_124M, KVCache, generate_text_cached, next_token_logits
from shared.guards import check_prompt, evaluation_mode, stored_by_columns

__all__ = ["text_to_token_ids", "token_ids_to_text", "calc_loss_batch",
    "calc_loss_loader", "evaluate_model", "bits_per_byte", "generate_and_print_sample",
    "train_model_simple", "plot_losses", "next_token_probabilities", "generate",
    "save_checkpoint", "check_shapes", "load_checkpoint", "gpt2_config", "initialize",
    "gpt2_views", "load_weights_into_gpt"]  # fmt: skip


# ch05.ipynb: text-to-token-ids
def text_to_token_ids(text, tokenizer):
    """A text's token IDs, as a batch of one: `str -> (1, T)`."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})]).long()


def token_ids_to_text(token_ids, tokenizer):
    """The text of a batch of one: `(1, T) -> str`."""
    return tokenizer.decode(token_ids.squeeze(0).tolist())


# ch05.ipynb: calc-loss-batch
def calc_loss_batch(input_batch, target_batch, model, device):
    """Cross-entropy in nats of an average target: `(B, T), (B, T) -> ()`. Targets of -100 do not count."""
    logits = model(input_batch.to(device))  # (B, T, V)
    return checked_loss(F.cross_entropy(logits.flatten(0, 1), target_batch.to(device).flatten()))


# ch05.ipynb: calc-loss-loader
def calc_loss_loader(data_loader, model, device, num_batches=None):
    """The loss of an average target of a loader, or of its first batches: nats; nan if there is none."""
    total, count = 0.0, 0
    for inputs, targets in itertools.islice(data_loader, num_batches):
        if asked := (targets != -100).sum().item():  # the mean over no target would be nan
            total += asked * calc_loss_batch(inputs, targets, model, device).item()
            count += asked
    return total / count if count else float("nan")


# ch05.ipynb: evaluate-model
def evaluate_model(model, train_loader, val_loader, device, eval_iter):
    """Losses without dropout, `(training, validation)`, each over the first eval_iter batches; no trace is left."""
    # a look into a loader draws random numbers: here from a copy, so that the training does not notice
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        loaders = train_loader, val_loader
        return tuple(calc_loss_loader(one, model, device, num_batches=eval_iter) for one in loaders)


# ch05.ipynb: bits-per-byte
def bits_per_byte(nats, byte_count):
    """The summed loss of a text as bits for each of its bytes: comparable whatever the tokenizer."""
    return nats / math.log(2) / byte_count


# ch05.ipynb: generate-and-print-sample
def generate_and_print_sample(model, tokenizer, device, start_context):
    """Print start_context and the 50 likeliest tokens after it, one by one, in one line."""
    ids = text_to_token_ids(start_context, tokenizer).to(device)
    ids = generate_text_cached(model, ids, 50, model.pos_emb.num_embeddings)
    print(token_ids_to_text(ids, tokenizer).replace("\n", " "))


# ch05.ipynb: train-model-simple
def train_model_simple(model, train_loader, val_loader, optimizer, device, num_epochs,
                       eval_freq, eval_iter, start_context, tokenizer):  # fmt: skip
    """Train; evaluate every eval_freq steps. Lists: training losses, validation losses, tokens seen."""
    whole_number(eval_freq, "eval_freq")  # a ValueError before the training, not in its midst
    train_losses, val_losses, track_tokens_seen = [], [], []
    tokens_seen, global_step = 0, -1
    for epoch in range(num_epochs):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            calc_loss_batch(input_batch, target_batch, model, device).backward()
            optimizer.step()
            tokens_seen += input_batch.numel()
            global_step += 1
            if global_step % eval_freq == 0:
                losses = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                train_losses.append(losses[0])
                val_losses.append(losses[1])
                track_tokens_seen.append(tokens_seen)
                log = "Ep {} (Step {:06d}): Train loss {:.3f}, Val loss {:.3f}"
                print(log.format(epoch + 1, global_step, *losses))
        generate_and_print_sample(model, tokenizer, device, start_context)
    return train_losses, val_losses, track_tokens_seen


# ch05.ipynb: plot-losses
def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses):
    """A figure of both losses against epochs (below) and tokens (above); a list for each."""
    fig, ax = plt.subplots(figsize=(6.6, 3.6))
    ax.plot(epochs_seen, train_losses, "-", epochs_seen, val_losses, "--")
    ax.set(xlabel="epochs", ylabel="loss", ylim=(0, None))
    ax.legend(["training", "validation"], frameon=False)
    n = tokens_seen[-1] / epochs_seen[-1]
    ax.secondary_xaxis("top", functions=(lambda x: x * n, lambda x: x / n), xlabel="tokens seen")
    return fig


# ch05.ipynb: next-token-probabilities
def next_token_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """Probabilities to draw from, `(B, V) -> (B, V)`; tokens as likely as the last one kept stay, too."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be 0 (the likeliest) or above")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1, or None for all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1, or None")
    finite_logits(logits)
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -torch.inf)
    logits = logits - logits.max(dim=-1, keepdim=True).values  # a tiny temperature would overflow
    probabilities = torch.softmax(logits / max(temperature, 1e-30), dim=-1)
    if top_p is not None and top_p < 1:
        ranked = probabilities.sort(descending=True).values
        unneeded = (ranked.cumsum(dim=-1) - ranked >= top_p) & (ranked < ranked[:, :1])
        least = ranked.masked_fill(unneeded, torch.inf).min(dim=-1, keepdim=True).values
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities / probabilities.sum(dim=-1, keepdim=True)


# ch05.ipynb: generate-2
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None,
             eos_id=None, *, top_p=None):  # fmt: skip
    """Continue texts: the likeliest tokens (temperature 0), or drawn ones; `(B, T) -> (B, T + n)`.

    A text ends before its eos_id, which fills it up while others go on. Of a prompt beyond the context
    the end is read, with a warning. ValueError: an empty prompt, settings that make no sense."""
    check_prompt(idx, context_size)
    if context_size > (limit := model.pos_emb.num_embeddings):
        raise ValueError(f"context_size is {context_size}; this model has {limit} positions")
    if (T := idx.shape[1]) > context_size:
        warnings.warn(f"{T} tokens: only the last {context_size} are read", stacklevel=2)
    cache, ended = [KVCache(context_size) for _ in model.trf_blocks], idx[:, :1] < 0  # none yet
    with evaluation_mode(model), stored_by_columns(model, max_new_tokens), torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = next_token_logits(model, idx, context_size, cache)  # (B, V)
            shares = next_token_probabilities(logits, temperature, top_k, top_p)
            idx_next = torch.multinomial(shares, 1) if temperature else shares.topk(1).indices
            if eos_id is not None:
                idx_next = idx_next.masked_fill(ended, eos_id)
                if (ended := idx_next == eos_id).all():
                    break
            idx = torch.cat((idx, idx_next), dim=1)
    return idx.clone()


# ch05.ipynb: save-checkpoint
def save_checkpoint(path, model, optimizer, **progress):
    """Write weights, optimizer, random states and `progress`: whole, or not at all. ValueError: unfit values."""
    state = {"model_state_dict": finite_weights(checkpoints.bare(model).state_dict(), path)}
    state |= {"optimizer": checkpoints.kind_of(optimizer)}
    state |= {"optimizer_state_dict": optimizer.state_dict(), "progress": progress}
    state |= {"rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all()}
    buffer = io.BytesIO()
    torch.save(checkpoints.plain(state), buffer)  # what can be read without running code
    with files.landing(path) as file:  # the old file until the block has ended, then the new one
        file.write(buffer.getbuffer())


# ch05.ipynb: check-shapes
def check_shapes(given, wanted, source):
    """Raise ValueError unless two dictionaries of tensors have the same names and shapes."""
    for name in wanted | given:
        parts = [tuple(d[name].shape) if name in d else "missing" for d in (given, wanted)]
        if parts[0] != parts[1]:
            raise ValueError(f"{source}: {name} is {parts[0]}; this model's is {parts[1]}")


# ch05.ipynb: load-checkpoint
def load_checkpoint(path, model, optimizer=None, run=None):
    """Load a checkpoint, or weights alone, and return its `progress`; ValueError for an unfit file.

    With `run`, from `checkpoints.identity`, that of another run is unfit, too. Then nothing is changed."""
    state, model = files.read_saved(path), checkpoints.bare(model)
    weights = checkpoints.weights_in(state, path)
    if "tok_emb.weight" in weights and model.out_head.weight is model.tok_emb.weight:
        weights.setdefault("out_head.weight", weights["tok_emb.weight"])  # a tied matrix, kept once
    check_shapes(weights, model.state_dict(), path)
    progress = state.get("progress", {})
    if run is not None:
        checkpoints.check_run(progress, run, path)
    if optimizer is not None:  # before the weights: it refuses other groups
        checkpoints.load_optimizer(optimizer, state, path)
    model.load_state_dict(weights)
    if optimizer is not None and "rng" in state:  # the book's checkpoints have none
        torch.set_rng_state(state["rng"])
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])
    return progress


# ch05.ipynb: gpt2-config
def gpt2_config(name):
    """The configuration of OpenAI's gpt2, gpt2-medium, gpt2-large or gpt2-xl; ValueError for others."""
    sizes = {"gpt2": (12, 12), "gpt2-medium": (24, 16), "gpt2-large": (36, 20), "gpt2-xl": (48, 25)}
    if name not in sizes:
        raise ValueError(f"no GPT-2 is called {name!r}; there are {', '.join(sizes)}")
    L, H = sizes[name]
    cfg = GPT_CONFIG_124M | {"n_layers": L, "n_heads": H, "emb_dim": 64 * H, "drop_rate": 0.0}
    return cfg | {"qkv_bias": True, "tie_weights": True}


# ch05.ipynb: initialize
@torch.no_grad()
def initialize(model, std=0.02):
    """GPT-2's first weights (Radford, 2019): N(0, std), smaller where a block adds; biases 0."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            adds = name.endswith(("att.out_proj.weight", "ff.layers.2.weight"))
            parameter.normal_(0.0, std / math.sqrt(2 * len(model.trf_blocks)) if adds else std)
        elif name.endswith("bias"):
            parameter.zero_()


# ch05.ipynb: gpt2-views
def gpt2_views(gpt):
    """Our parameters under GPT-2's names: `{name: [views]}`, to be joined along the last dimension."""
    norms, linear = {"ln_f": gpt.final_norm}, {}
    for i, block in enumerate(gpt.trf_blocks):
        norms |= {f"h.{i}.ln_1": block.norm1, f"h.{i}.ln_2": block.norm2}
        att, ff = block.att, block.ff.layers
        linear[f"h.{i}.attn.c_attn"] = [att.W_query, att.W_key, att.W_value]
        linear |= {f"h.{i}.attn.c_proj": [att.out_proj]}
        linear |= {f"h.{i}.mlp.c_fc": [ff[0]], f"h.{i}.mlp.c_proj": [ff[2]]}
    views = {"wte.weight": [gpt.tok_emb.weight], "wpe.weight": [gpt.pos_emb.weight]}
    for name, norm in norms.items():
        views |= {f"{name}.weight": [norm.scale], f"{name}.bias": [norm.shift]}
    # in GPT-2 inputs come first, (C, 3 C): queries, keys and values side by side
    for name, parts in linear.items():
        views[f"{name}.weight"] = [part.weight.T for part in parts]
        views[f"{name}.bias"] = [part.bias for part in parts]
    return views | {"lm_head.weight": [gpt.out_head.weight]}


# ch05.ipynb: load-weights-into-gpt
@torch.no_grad()
def load_weights_into_gpt(gpt, params):
    """Copy GPT-2's tensors, by Hugging Face's names; ValueError, and no change, unless all of them fit."""
    if gpt.trf_blocks[0].att.W_query.bias is None:
        raise ValueError("GPT-2's queries, keys and values have biases: build with qkv_bias=True")
    params = finite_weights(checkpoints.without_prefix(params), "GPT-2's weights")
    given = {name.removeprefix("transformer."): tensor for name, tensor in params.items()}
    if len(given) < len(params):
        raise ValueError("GPT-2's weights: a name stands there twice, with and without a prefix")
    given = {n: t for n, t in given.items() if not re.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", n)}
    if "wte.weight" in given:  # the head is tied, and often not stored
        given.setdefault("lm_head.weight", given["wte.weight"])
    views = gpt2_views(gpt)
    joined = {n: torch.cat([p.to("meta") for p in parts], dim=-1) for n, parts in views.items()}
    check_shapes(given, joined, "GPT-2's weights")
    tied = gpt.out_head.weight is gpt.tok_emb.weight
    if tied and not torch.equal(given["wte.weight"], given["lm_head.weight"]):
        raise ValueError("lm_head.weight is not wte.weight, but this model ties the two")
    for name, parts in views.items():
        for part, piece in zip(parts, given[name].chunk(len(parts), dim=-1)):
            part.copy_(piece)
