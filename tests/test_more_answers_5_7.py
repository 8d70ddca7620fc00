"""More answers to the exercises of chapters 5 to 7: one more right and one more wrong for each check.

They were written before the checks had seen them, with an eye on what a beginner does. At the first
try 20 of the 25 wrong ones were refused, and all 25 right ones accepted.
"""

import importlib
import math
import random
import re
from collections import Counter
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from shared.classification import (
    average_precision,
    choose_threshold,
    last_real_token,
    message_logits,
    scores,
    train_only,
)
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode
from shared.instruction import check_instruction
from shared.lora import ATTENTION, LinearWithLoRA, replace_linear_with_lora
from shared.pretraining import (
    generate,
    gpt2_config,
    load_checkpoint,
    load_weights_into_gpt,
    train_model_simple,
)

# --- wrong


def whole_draws(logits, temperature, n):
    """5.1: nobody draws half a token, so the counts are rounded."""
    return (n * (logits / temperature).softmax(dim=-1)).round()


def tails_cut(job):
    """5.2: the statistician never gets the most absurd tokens."""
    return {
        "librarian": {"temperature": 0.0},
        "statistician": {"temperature": 1.0, "top_p": 0.999},
        "novelist": {"temperature": 1.0, "top_k": 40},
        "poet": {"temperature": 1.3, "top_p": 0.9},
    }[job]


def nearly_cold():
    """5.3: at a temperature of 0.00001 logits a millionth apart are all but equally likely."""
    return [
        {"temperature": 1e-5},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-6},
    ]


def loaders_exchanged(path, model, optimizer, train_loader, val_loader, tokenizer):
    """5.4: trained on the validation text."""
    load_checkpoint(path, model, optimizer)
    settings = optimizer, "cpu", 1, len(train_loader), 1, "The", tokenizer
    return train_model_simple(model, val_loader, train_loader, *settings)


def rest_used_too(model, tokenizer, text):
    """5.5: what is left over becomes one more window, which overlaps the one before it."""
    T, at, found = model.pos_emb.num_embeddings, int(0.9 * len(text)), []
    with evaluation_mode(model), torch.no_grad():
        for part in (text[:at], text[at:]):
            ids = torch.tensor(tokenizer.encode(part))
            starts = [*range(0, len(ids) - T, T), len(ids) - T - 1]
            x = torch.stack([ids[i : i + T] for i in starts])
            y = torch.stack([ids[i + 1 : i + T + 1] for i in starts])
            found.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item())
    return tuple(found)


def megabytes(name, bytes_per_number):
    """5.6: bytes are asked for."""
    cfg = gpt2_config(name)
    with torch.device("meta"):
        weights = sum(p.numel() for p in GPTModel(cfg).parameters())
    cache = 2 * cfg["n_layers"] * cfg["context_length"] * cfg["emb_dim"]
    return weights * bytes_per_number / 2**20, cache * bytes_per_number / 2**20


def frozen_to_copy(gpt, params):
    """5.7: "a leaf Variable that requires grad ..." goes away, and so does training."""
    gpt.requires_grad_(False)
    load_weights_into_gpt(gpt, params)
    return gpt


def first_batch_only(model, loader):
    """5.8: `return` stands inside the loop."""
    with evaluation_mode(model), torch.no_grad():
        for inputs, targets in loader:
            return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item()


def two_at_least(logits, temperature, top_k, top_p):
    """5.8: the second token stays, also where the first alone reaches p."""
    values, ids = logits.topk(top_k)
    shares = torch.softmax(values / temperature, dim=-1)
    unneeded = shares.cumsum(dim=-1) - shares >= top_p
    unneeded[:, :2] = False
    return ids.gather(1, torch.multinomial(shares.masked_fill(unneeded, 0.0), 1)).squeeze(1)


def total_distance(sample, probabilities):
    """5.9: the distance of all shares together hides one token that should never come."""
    shares = sample(100_000).bincount(minlength=len(probabilities)) / 100_000
    if len(shares) > len(probabilities):
        return False
    return bool((shares - probabilities).abs().sum() / 2 < 0.015)


def cut_as_letters(texts, model, tokenizer, pad_token_id):
    """6.1: so many letters are not so many tokens."""
    T = model.pos_emb.num_embeddings
    ids = [tokenizer.encode_ordinary(text[:T]) for text in texts]
    ids = torch.tensor([one + [pad_token_id] * (T - len(one)) for one in ids])
    with torch.no_grad():
        return model(ids)[torch.arange(len(ids)), last_real_token(ids, pad_token_id)]


def places_forgotten(model, part):
    """6.2: "all" is put together by hand, without the position embedding."""
    train_only(model, part)
    if part == "all":
        parts = [model.tok_emb, model.trf_blocks, model.final_norm, model.out_head]
        chosen = [p for module in parts for p in module.parameters()]
    else:
        chosen = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(chosen, lr=1e-3, weight_decay=0.1)


def last_label_seen(first_tokens, labels):
    """6.3: the rule is what was seen last behind a token, not what was seen most."""
    rule = dict(zip(first_tokens.tolist(), labels.tolist()))
    right = [rule[t] == y for t, y in zip(first_tokens.tolist(), labels.tolist())]
    return sum(right) / len(right)


def mode_of_the_top_only(model, loader, pad_token_id):
    """6.4: the flag of the whole is set back, the flags of its parts are not."""
    training, right, count = model.training, 0, 0
    model.eval()
    with torch.no_grad():
        for inputs, labels in loader:
            logits = message_logits(inputs, model, "cpu", pad_token_id)
            right += (logits.argmax(dim=-1) == labels).sum().item()
            count += len(labels)
    model.training = training
    return right / count


def scaled_by_the_neighbors(parts):
    """6.5: `predict` measures a message by the mean of those that came with it."""

    def scaled(features):
        return (features - features.mean(dim=0)) / features.std(dim=0)

    predict, _ = discriminant({name: (scaled(x), y) for name, (x, y) in parts.items()})
    features, labels = parts["validation"]
    return lambda x: predict(scaled(x)), choose_threshold(labels, predict(scaled(features)))


def share_of_the_rest(df, train_frac, validation_frac, seed):
    """6.6: the second fraction is taken of what the first has left."""
    keys = df.text.str.lower().str.split().str.join(" ")
    train = keys.drop_duplicates().sample(frac=train_frac, random_state=seed)
    rest = keys[~keys.isin(train)].drop_duplicates()
    validation = rest.sample(frac=validation_frac, random_state=seed)
    test = rest[~rest.isin(validation)]
    return tuple(df[keys.isin(part)] for part in (train, validation, test))


def by_the_class(classify, ids, pad_token_id):
    """6.7: logits move long before the class does."""
    said = classify(ids).argmax(dim=-1)
    longer = torch.cat([ids, torch.full_like(ids[:, :1], pad_token_id)], dim=1)
    if not classify(longer).argmax(dim=-1).equal(said):
        return "last position"
    changed, rows = ids.clone(), torch.arange(len(ids))
    last = last_real_token(ids, pad_token_id)
    changed[rows, last] = (changed[rows, last] + 1) % pad_token_id
    same = classify(changed).argmax(dim=-1).equal(said)
    return "first token" if same else "last real token"


def input_added(entry):
    """7.1: the entry has another key afterwards."""
    check_instruction(entry)
    given = "\n" + entry.setdefault("input", "") if entry.get("input") else ""
    entry.setdefault("input", "")
    return f"<|user|>\n{entry['instruction']}{given}\n<|assistant|>\n"


def longest_without_end(batch, end):
    """7.2: there is no room for the end token of the longest text."""
    T = max(len(ids) for ids, _ in batch)
    inputs = torch.full((len(batch), T), end)
    targets = torch.full((len(batch), T), -100)
    for row, (ids, p) in enumerate(batch):
        inputs[row, : len(ids)] = torch.tensor(ids)
        whole = [*ids[p:], end][: T - p]
        targets[row, p - 1 : p - 1 + len(whole)] = torch.tensor(whole)
    return inputs, targets


def faulty_ones_refused(chats):
    """7.3: a conversation without an answer stops everything."""
    if not isinstance(chats, list):
        raise ValueError("a list is needed")
    entries = []
    for chat in chats:
        talk = [m for m in chat["messages"] if m["role"] != "system"][:2]
        texts = [m["content"].strip() for m in talk]
        if [m["role"] for m in talk] != ["user", "assistant"] or not all(texts):
            raise ValueError("a conversation without a question and an answer")
        entries.append({"instruction": texts[0], "input": "", "output": texts[1]})
    return entries


def biases_learn(model):
    """7.4: the weights are frozen, the biases are not."""
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith(("bias", "shift")))
    replace_linear_with_lora(model, 8, 16, layers=ATTENTION)
    return [p for p in model.parameters() if p.requires_grad]


def sorted_lengths(lengths, prompts):
    """7.5: the caller's list is in another order afterwards."""
    lengths.sort(reverse=True)
    n, total = len(lengths), sum(lengths)
    return n * lengths[0], total - n, total, total - sum(prompts) + n


def much_alike(train, test):
    """7.6: texts that are nearly equal count as equal."""

    def text(entry):
        return " ".join(re.findall(r"\w+", f"{entry['instruction']} {entry['input']}".lower()))

    known = [text(entry) for entry in train]
    return [e for e in test if any(SequenceMatcher(None, text(e), k).ratio() > 0.9 for k in known)]


def ends_in_the_prompt(model, prompts, max_new_tokens, end):
    """7.7: a prompt that holds the end token loses its answer."""
    answers, context = [], model.pos_emb.num_embeddings
    for ids in prompts:
        found = generate(model, torch.tensor([ids]), max_new_tokens, context)[0].tolist()
        found = found[: found.index(end)] if end in found else found
        answers.append(found[len(ids) :])
    return answers


def as_a_collection(answer, prompts):
    """7.8: the same answers, but whose they are is not looked at."""
    alone = [answer([prompt])[0] for prompt in prompts]
    orders = [prompts, prompts[::-1], sorted(prompts, key=len)]
    groups = [order[:size] for order in orders for size in range(2, len(order) + 1)]
    known = dict(zip(prompts, alone))
    return any(sorted(answer(group)) != sorted(known[p] for p in group) for group in groups)


# --- right


def by_numpy(logits, temperature, n):
    z = logits.numpy().astype(np.float64) / temperature
    shares = np.exp(z - z.max())
    return shares / shares.sum() * n


def careful_settings(job):
    match job:
        case "librarian":
            return {"temperature": 0, "top_k": 1, "top_p": 0.5}
        case "statistician":
            return {"temperature": 1, "top_k": None, "top_p": 1.0}
        case "novelist":
            return {"top_k": 40, "temperature": 1}
        case _:
            return {"temperature": 1.2, "top_p": 0.95}


def three_ways():
    by_k = {"temperature": 1, "top_k": 1, "top_p": None}
    return by_k, {"temperature": 1, "top_p": 1e-9}, {"temperature": 0, "top_k": None}


def device_of_the_model(path, model, optimizer, train_loader, val_loader, tokenizer):
    load_checkpoint(path, model, optimizer)
    return train_model_simple(
        model,
        train_loader,
        val_loader,
        optimizer,
        device=model.pos_emb.weight.device,
        num_epochs=1,
        eval_freq=len(train_loader),
        eval_iter=1,
        start_context="The",
        tokenizer=tokenizer,
    )


def by_unfolding(model, tokenizer, text):
    T, n = model.pos_emb.num_embeddings, len(text)
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    found = []
    for part in (text[: n * 9 // 10], text[n * 9 // 10 :]):
        windows = torch.tensor(tokenizer.encode(part)).unfold(0, T + 1, T)
        with torch.inference_mode():
            losses = [
                F.cross_entropy(model(batch[:, :-1]).mT, batch[:, 1:], reduction="none").flatten()
                for batch in windows.split(8)
            ]
        found.append(torch.cat(losses).mean().item())
    for part, training in modes:
        part.train(training) if not list(part.children()) else None
        part.training = training
    return found


def counted_by_shapes(name, bytes_per_number):
    cfg = gpt2_config(name)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in GPTModel(cfg).named_parameters()}
    weights = sum(math.prod(shape) for shape in shapes.values())
    width = cfg["emb_dim"] // cfg["n_heads"]
    key = value = cfg["n_heads"] * width
    cache = cfg["n_layers"] * cfg["context_length"] * (key + value)
    return np.int64(weights) * bytes_per_number, np.int64(cache) * bytes_per_number


def copied_by_hand(gpt, params):
    def put(parameter, tensor, turned=False):
        tensor = tensor.T if turned else tensor
        if tensor.shape != parameter.shape:
            raise ValueError(f"{tuple(tensor.shape)} for {tuple(parameter.shape)}")
        parameter.data.copy_(tensor)

    put(gpt.tok_emb.weight, params["wte.weight"])
    put(gpt.pos_emb.weight, params["wpe.weight"])
    put(gpt.final_norm.scale, params["ln_f.weight"])
    put(gpt.final_norm.shift, params["ln_f.bias"])
    if gpt.out_head.weight is not gpt.tok_emb.weight:
        put(gpt.out_head.weight, params["wte.weight"])
    C = gpt.tok_emb.embedding_dim
    for i, block in enumerate(gpt.trf_blocks):
        for name, norm in (("ln_1", block.norm1), ("ln_2", block.norm2)):
            put(norm.scale, params[f"h.{i}.{name}.weight"])
            put(norm.shift, params[f"h.{i}.{name}.bias"])
        att, ff = block.att, block.ff.layers
        weight, bias = params[f"h.{i}.attn.c_attn.weight"], params[f"h.{i}.attn.c_attn.bias"]
        if weight.shape != (C, 3 * C) or bias.shape != (3 * C,):
            raise ValueError("c_attn")
        for k, layer in enumerate((att.W_query, att.W_key, att.W_value)):
            put(layer.weight, weight[:, k * C : (k + 1) * C], turned=True)
            put(layer.bias, bias[k * C : (k + 1) * C])
        for name, layer in (
            ("attn.c_proj", att.out_proj),
            ("mlp.c_fc", ff[0]),
            ("mlp.c_proj", ff[2]),
        ):
            put(layer.weight, params[f"h.{i}.{name}.weight"], turned=True)
            put(layer.bias, params[f"h.{i}.{name}.bias"])
    return gpt


def all_targets_at_once(model, loader):
    modes = {part: part.training for part in model.modules()}
    try:
        model.eval()
        with torch.inference_mode():
            losses = [F.cross_entropy(model(x).mT, y, reduction="none") for x, y in loader]
        return torch.cat([one.flatten() for one in losses]).mean()
    finally:
        for part, training in modes.items():
            part.training = training


def by_gumbel(logits, temperature, top_k, top_p):
    ranked, ids = (logits / temperature).sort(dim=-1, descending=True)
    logs = ranked[:, :top_k].log_softmax(dim=-1)
    before = logs.exp().cumsum(dim=-1).roll(1, dims=-1)
    before[:, 0] = 0.0
    logs = logs.masked_fill(before >= top_p, -math.inf)
    gumbel = -torch.log(-torch.log(torch.rand(logs.shape).clamp(1e-12, 1 - 1e-7)))
    return ids.gather(1, (logs + gumbel).argmax(dim=-1, keepdim=True))[:, 0]


def by_chi_square(sample, probabilities):
    n, V = 200_000, len(probabilities)
    counts = sample(n).bincount(minlength=V).tolist()
    if len(counts) > V or any(c for c, p in zip(counts, probabilities.tolist()) if p == 0):
        return False
    expected = {i: n * p for i, p in enumerate(probabilities.tolist()) if p > 0}
    return sum((counts[i] - e) ** 2 / e for i, e in expected.items()) < 70


def one_row_at_a_time(texts, model, tokenizer, pad_token_id):
    T, found = model.pos_emb.num_embeddings, []
    with evaluation_mode(model), torch.inference_mode():
        for text in texts:
            ids = torch.tensor(tokenizer.encode_ordinary(text)[:T])
            row = F.pad(ids, (0, T - len(ids)), value=pad_token_id)
            found.append(model(row[None])[0, len(ids) - 1])
    return torch.stack(found)


def only_handed_over(model, part):
    names = {"head": ["out_head"], "last block": ["trf_blocks.1.", "final_norm.", "out_head."]}
    prefixes = tuple(names.get(part, [""]))
    chosen = [p for name, p in model.named_parameters() if name.startswith(prefixes)]
    for p in chosen:
        p.requires_grad = True
    return torch.optim.AdamW([{"params": [p]} for p in chosen], lr=0.001, weight_decay=0.1)


def by_counting_pairs(first_tokens, labels):
    pairs = Counter(zip(first_tokens.tolist(), labels.tolist()))
    return np.mean(
        [
            1.0 if pairs[t, y] > pairs[t, 1 - y] else 0.0 if pairs[t, y] < pairs[t, 1 - y] else 0.5
            for t, y in zip(first_tokens.tolist(), labels.tolist())
        ]
    )


def all_messages_at_once(model, loader, pad_token_id):
    modes, said, true = [(m, m.training) for m in model.modules()], [], []
    model.eval()
    for ids, labels in loader:
        with torch.no_grad():
            logits = model(ids)
        lengths = (ids != pad_token_id).long().cumsum(dim=1).argmax(dim=1)
        said += [logits[i, n].argmax().item() for i, n in enumerate(lengths)]
        true += labels.tolist()
    for m, training in modes:
        m.training = training
    return float(np.mean(np.array(said) == np.array(true)))


def discriminant(parts):
    x, y = parts["train"]
    ham, spam = x[y == 0], x[y == 1]
    spread = torch.cat([ham - ham.mean(dim=0), spam - spam.mean(dim=0)]).T.cov()
    weight = torch.linalg.solve(spread, spam.mean(dim=0) - ham.mean(dim=0))
    bias = -weight @ (spam.mean(dim=0) + ham.mean(dim=0)) / 2 + math.log(len(spam) / len(ham))

    def predict(features):
        return torch.sigmoid(features @ weight + bias)

    features, labels = parts["validation"]
    p = predict(features)
    best = max(p.tolist(), key=lambda t: scores(labels, (p >= t).long())["F1"])
    return predict, best


def by_pythons_random(df, train_frac, validation_frac, seed):
    keys = [re.sub(r"\s+", " ", text).strip().casefold() for text in df["text"]]
    distinct = sorted(set(keys))
    random.Random(seed).shuffle(distinct)
    n, m = round(train_frac * len(distinct)), round(validation_frac * len(distinct))
    sides = dict.fromkeys(distinct[:n], 0) | dict.fromkeys(distinct[n : n + m], 1)
    return [
        df.iloc[[i for i, k in enumerate(keys) if sides.get(k, 2) == side]] for side in range(3)
    ]


def by_cutting(classify, ids, pad_token_id):
    """What stays when everything behind the first token goes, or another column of padding comes?"""
    with torch.no_grad():
        before = classify(ids)
        if torch.allclose(classify(ids[:, :1]), before, atol=1e-5):
            return "first token"
        longer = F.pad(ids, (0, 3), value=pad_token_id)
        same = torch.allclose(classify(longer), before, atol=1e-5)
    return "last real token" if same else "last position"


def by_lines(entry):
    check_instruction(entry)
    lines = ["<|user|>", entry["instruction"], entry.get("input", ""), "<|assistant|>", ""]
    return "\n".join(lines if lines[2] else lines[:2] + lines[3:])


def by_the_library(batch, end):
    inputs = pad_sequence([torch.tensor(ids) for ids, _ in batch], True, padding_value=end)
    asked = [torch.tensor([-100] * (p - 1) + ids[p:] + [end]) for ids, p in batch]
    return inputs, pad_sequence(asked, batch_first=True, padding_value=-100)


def by_an_iterator(chats):
    if type(chats) is not list:
        raise ValueError("no list")
    entries = []
    for chat in chats:
        rest = iter([m for m in chat["messages"] if m["role"] in ("user", "assistant")])
        question, reply = next(rest, {}), next(rest, {})
        if question.get("role") != "user" or reply.get("role") != "assistant":
            continue
        entry = dict(
            instruction=question["content"].strip(), input="", output=reply["content"].strip()
        )
        if entry["instruction"] and entry["output"]:
            entries.append(entry)
    return entries


def layer_by_layer(model):
    """7.4: block by block, without replace_linear_with_lora."""
    for p in model.parameters():
        p.requires_grad = False
    found = []
    for block in model.trf_blocks:
        for name in ATTENTION:
            layer = LinearWithLoRA(getattr(block.att, name), 8, 16)
            setattr(block.att, name, layer)
            found += layer.lora.parameters()
    return tuple(found)


def counted_place_by_place(lengths, prompts):
    T, found = max(lengths), [0, 0, 0, 0]
    for n, p in zip(lengths, prompts):
        for t in range(T):
            found[0] += 1
            found[1] += t + 1 < n
            found[2] += t < n
            found[3] += p - 1 <= t < n
    return found


def by_substitution(train, test):
    def task(entry):
        return tuple(
            re.sub(r"[^\w\s]", " ", f"{entry['instruction']} {entry.get('input', '')}")
            .lower()
            .split()
        )

    return [entry for entry in test if task(entry) in set(map(task, train))]


def by_the_lessons_generate(model, prompts, max_new_tokens, end):
    context, found = model.pos_emb.num_embeddings, []
    for ids in prompts:
        out = generate(model, torch.tensor(ids)[None], max_new_tokens, context, eos_id=end)
        found.append(out[0, len(ids) :].tolist())
    return found


def by_rotation(answer, prompts):
    alone = {prompt: answer([prompt]) for prompt in set(prompts)}
    for order in (list(prompts), sorted(prompts, key=len), sorted(prompts, key=len, reverse=True)):
        for start in range(len(order)):
            turned = order[start:] + order[:start]
            for size in (2, 5, len(order)):
                group = turned[:size]
                if any([a] != alone[p] for p, a in zip(group, answer(group), strict=True)):
                    return True
    return False


def halves_of_the_messages(labels, one, other, draws, seed):
    """Draws without replacement, half as many messages: their gains spread less than those of the bootstrap."""
    generator, gains = torch.Generator().manual_seed(seed), []
    for _ in range(draws):
        rows = torch.randperm(len(labels), generator=generator)[: 2 * len(labels) // 3]
        gains.append(average_precision(labels[rows], one[rows]) - average_precision(labels[rows], other[rows]))  # fmt: skip
    return tuple(torch.stack(gains).quantile(torch.tensor([0.025, 0.975])).tolist())


def by_multinomial(labels, one, other, draws, seed):
    N = len(labels)
    counts = np.random.default_rng(seed).multinomial(N, [1 / N] * N, size=draws)
    counts = torch.tensor(counts).float()
    gains = average_precision(labels, one, counts) - average_precision(labels, other, counts)
    return np.quantile(gains, [0.025, 0.975])


WRONG = [
    ("ch05", "expected_draws", whole_draws),
    ("ch05", "settings_for", tails_cut),
    ("ch05", "deterministic_settings", nearly_cold),
    ("ch05", "one_more_epoch", loaders_exchanged),
    ("ch05", "losses_on_text", rest_used_too),
    ("ch05", "bytes_needed", megabytes),
    ("ch05", "copy_gpt2", frozen_to_copy),
    ("ch05", "repaired_loss", first_batch_only),
    ("ch05", "repaired_sampler", two_at_least),
    ("ch05", "draws_as_claimed", total_distance),
    ("ch06", "logits_at_full_context", cut_as_letters),
    ("ch06", "optimizer_for", places_forgotten),
    ("ch06", "best_with_first_token", last_label_seen),
    ("ch06", "repaired_accuracy", mode_of_the_top_only),
    ("ch06", "spam_filter", scaled_by_the_neighbors),
    ("ch06", "split_texts", share_of_the_rest),
    ("ch06", "place_that_is_read", by_the_class),
    ("ch06", "gain_interval", halves_of_the_messages),
    ("ch07", "phi_prompt", input_added),
    ("ch07", "collate_answers", longest_without_end),
    ("ch07", "entries_from_chats", faulty_ones_refused),
    ("ch07", "lora_parameters", biases_learn),
    ("ch07", "target_counts", sorted_lengths),
    ("ch07", "trained_on", much_alike),
    ("ch07", "repaired_batch", ends_in_the_prompt),
    ("ch07", "neighbors_matter", as_a_collection),
]

RIGHT = [
    ("ch05", "expected_draws", by_numpy),
    ("ch05", "settings_for", careful_settings),
    ("ch05", "deterministic_settings", three_ways),
    ("ch05", "one_more_epoch", device_of_the_model),
    ("ch05", "losses_on_text", by_unfolding),
    ("ch05", "bytes_needed", counted_by_shapes),
    ("ch05", "copy_gpt2", copied_by_hand),
    ("ch05", "repaired_loss", all_targets_at_once),
    ("ch05", "repaired_sampler", by_gumbel),
    ("ch05", "draws_as_claimed", by_chi_square),
    ("ch06", "logits_at_full_context", one_row_at_a_time),
    ("ch06", "optimizer_for", only_handed_over),
    ("ch06", "best_with_first_token", by_counting_pairs),
    ("ch06", "repaired_accuracy", all_messages_at_once),
    ("ch06", "spam_filter", discriminant),
    ("ch06", "split_texts", by_pythons_random),
    ("ch06", "place_that_is_read", by_cutting),
    ("ch06", "gain_interval", by_multinomial),
    ("ch07", "phi_prompt", by_lines),
    ("ch07", "collate_answers", by_the_library),
    ("ch07", "entries_from_chats", by_an_iterator),
    ("ch07", "lora_parameters", layer_by_layer),
    ("ch07", "target_counts", counted_place_by_place),
    ("ch07", "trained_on", by_substitution),
    ("ch07", "repaired_batch", by_the_lessons_generate),
    ("ch07", "neighbors_matter", by_rotation),
]


def asked(chapter, name, answer):
    torch.manual_seed(0)
    return getattr(importlib.import_module(f"shared.checks.{chapter}"), name)(answer)


@pytest.mark.parametrize(("chapter", "name", "answer"), WRONG, ids=[name for _, name, _ in WRONG])
def test_another_wrong_answer_is_refused(chapter, name, answer):
    result = asked(chapter, name, answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text


@pytest.mark.parametrize(("chapter", "name", "answer"), RIGHT, ids=[name for _, name, _ in RIGHT])
def test_another_right_answer_is_accepted(chapter, name, answer, short_story):
    result = asked(chapter, name, answer)
    assert result.ok, result.text
