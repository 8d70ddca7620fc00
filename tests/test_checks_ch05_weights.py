"""The checks of chapter 5's exercises on weights: accept right answers, refuse the usual wrong ones."""

import functools
import math

import notebooks
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import editions, encodings, models
from shared.checks import ch05 as check
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode
from shared.pretraining import calc_loss_batch, calc_loss_loader, gpt2_config, load_weights_into_gpt
from shared.text_data import create_dataloader_v1

answers = functools.partial(notebooks.answers, "ch05_pretraining")


# 5.5: losses of a text


def measured(
    mode=True,
    split=None,
    stride=1,
    batch=4,
    swapped=False,
    means=False,
    shuffle=False,
    restore=True,
    drop=False,
    length=None,
):
    """An answer with any of these faults."""

    def losses_on_text(model, tokenizer, text):
        T = length or model.pos_emb.num_embeddings
        at = split(tokenizer, text) if split else int(0.9 * len(text))
        found = []
        if not restore:
            model.eval()
        with evaluation_mode(model) if mode else torch.enable_grad(), torch.no_grad():
            for part in (text[:at], text[at:]):
                step = max(1, int(T * stride))
                loader = create_dataloader_v1(
                    part, batch, T, step, shuffle, drop, tokenizer=tokenizer
                )
                if means:
                    losses = [calc_loss_batch(x, y, model, "cpu").item() for x, y in loader]
                    found.append(sum(losses) / len(losses))
                else:
                    found.append(calc_loss_loader(loader, model, "cpu"))
        return found[::-1] if swapped else tuple(found)

    return losses_on_text


def by_tokens(tokenizer, text):
    ids = tokenizer.encode(text)
    return len(tokenizer.decode(ids[: int(0.9 * len(ids))]))


def parts_left_in_evaluation(model, tokenizer, text):
    training = model.training
    found = measured(restore=False)(model, tokenizer, text)
    model.training = training
    return found


def frozen_for_good(model, tokenizer, text):
    return measured()(model.requires_grad_(False), tokenizer, text)


def only_validation(model, tokenizer, text):
    return measured()(model, tokenizer, text)[1:]


def perplexities(model, tokenizer, text):
    return [torch.tensor(loss).exp().item() for loss in measured()(model, tokenizer, text)]


def in_bits(model, tokenizer, text):
    return [loss / math.log(2) for loss in measured()(model, tokenizer, text)]


# 5.6: bytes


def needed(weights=lambda cfg, count: count, cache=lambda cfg, count: count, size=lambda n: n):
    def bytes_needed(name, bytes_per_number):
        cfg = gpt2_config(name)
        with torch.device("meta"):
            count = sum(p.numel() for p in GPTModel(cfg).parameters())
        kept = 2 * cfg["n_layers"] * cfg["context_length"] * cfg["emb_dim"]
        factor = size(bytes_per_number)
        return weights(cfg, count) * factor, cache(cfg, kept) * factor

    return bytes_needed


def with_numbers(name, bytes_per_number):
    weights = sum(p.numel() for p in GPTModel(gpt2_config(name)).parameters())
    return weights * bytes_per_number, needed()(name, bytes_per_number)[1]


def untied(cfg, count):
    return count + cfg["vocab_size"] * cfg["emb_dim"]


def without_biases(cfg, count):
    return count - 3 * cfg["n_layers"] * cfg["emb_dim"]


# 5.7: copying GPT-2's weights


def by_hand(gpt, params):
    return answers("solutions.ipynb")["copy_gpt2"](gpt, params)


def by_the_lesson(gpt, params):
    load_weights_into_gpt(gpt, params)
    return gpt


def copied(spoil=lambda gpt: None, change=lambda params: params, before=lambda gpt: gpt):
    """The solution with a fault: before it, in the tensors, or in the model afterwards."""

    def copy_gpt2(gpt, params):
        by_hand(before(gpt), change(dict(params)))
        with torch.no_grad():
            spoil(gpt)
        return gpt

    return copy_gpt2


def turned(*parts):
    def spoil(gpt):
        for block in gpt.trf_blocks:
            for part in parts:
                weight = getattr(block.att, part).weight
                weight.copy_(weight.T.clone())

    return spoil


def swapped(gpt):
    for block in gpt.trf_blocks:
        block.att.W_query, block.att.W_key = block.att.W_key, block.att.W_query


def swapped_and_turned(gpt):
    swapped(gpt)
    turned("W_query", "W_key", "W_value", "out_proj")(gpt)


def swapped_in_the_last(gpt):
    att = gpt.trf_blocks[-1].att
    att.W_query.weight, att.W_key.weight = att.W_key.weight, att.W_query.weight


def head_as_it_was(gpt):
    if gpt.out_head.weight is not gpt.tok_emb.weight:
        nn.init.normal_(gpt.out_head.weight)


def head_cut_loose(gpt):
    gpt.out_head.weight = nn.Parameter(gpt.tok_emb.weight.clone())


def norms_forgotten(gpt):
    gpt.final_norm.shift.zero_()


def norms_exchanged(gpt):
    for block in gpt.trf_blocks:
        block.norm1, block.norm2 = block.norm2, block.norm1


def other_eps(gpt):
    gpt.final_norm.eps = 1e-3


def thirds_in_another_order(gpt):
    att = gpt.trf_blocks[0].att
    att.W_query, att.W_key, att.W_value = att.W_key, att.W_value, att.W_query


def biases_in_another_order(gpt):
    att = gpt.trf_blocks[1].att
    att.W_key.bias, att.W_value.bias = att.W_value.bias, att.W_key.bias


def biases_forgotten(gpt, params):
    old = [block.att.W_query.bias.clone() for block in gpt.trf_blocks]
    by_hand(gpt, params)
    with torch.no_grad():
        for block, bias in zip(gpt.trf_blocks, old):
            block.att.W_query.bias.copy_(bias)
    return gpt


def tied_for_good(gpt):
    gpt.out_head.weight = gpt.tok_emb.weight


def memory_shared(gpt, params):
    by_hand(gpt, params)
    gpt.final_norm.scale.data = params["ln_f.weight"]
    return gpt


SHAPES = {"ln_f.bias": (24,), "h.1.mlp.c_fc.bias": (96,), "h.0.attn.c_proj.weight": (24, 24)}
SHAPES |= {"wpe.weight": (12, 24), "wte.weight": (260, 24)}


def spread(params):
    """What copy_ alone would do: one number for a whole parameter, one row for a table."""
    small = [name for name, size in SHAPES.items() if params[name].shape != size]
    small = [name for name in small if name != "wte.weight"]
    return params | {name: params[name].expand(SHAPES[name]) for name in small}


def rows_spread(params):
    """What is left of that if tensors of one number are refused."""
    return spread(params) if all(t.numel() > 1 for t in params.values()) else params


def as_many_numbers(params):
    return params | {"wte.weight": params["wte.weight"].reshape(260, 24)}


def changes_what_it_gets(gpt, params):
    by_hand(gpt, params)
    params["wte.weight"].zero_()
    return gpt


def uses_up_what_it_gets(gpt, params):
    by_hand(gpt, params)
    params.clear()
    return gpt


def a_new_model(gpt, params):
    other = GPTModel(tied_config()).double()
    by_hand(other, params)
    return other


def tied_config():
    cfg = {"vocab_size": 260, "context_length": 12, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    return cfg | {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


def nothing_returned(gpt, params):
    by_hand(gpt, params)


def wrong_shape_is_a_runtime_error(gpt, params):
    if any(tensor.numel() == 1 for tensor in params.values()):
        raise RuntimeError("shapes differ")
    return copied()(gpt, params)


def shapes_asserted(gpt, params):
    for name, size in SHAPES.items():
        assert params[name].shape == size
    return copied()(gpt, params)


def c_fc_not_turned(gpt, params):
    with torch.no_grad():
        gpt.trf_blocks[0].ff.layers[0].weight.copy_(params["h.0.mlp.c_fc.weight"])
    return gpt


ALL = ("W_query", "W_key", "W_value", "out_proj")
WRONG = [
    ("losses_on_text", measured(mode=False), "answers differently"),
    ("losses_on_text", measured(means=True), "a mean over batches"),
    ("losses_on_text", measured(means=True, batch=3), "a mean over batches"),
    ("losses_on_text", measured(stride=0.5), "overlap"),
    ("losses_on_text", measured(stride=1 / 12), "overlap"),
    ("losses_on_text", measured(drop=True), "drop_last leaves out"),
    ("losses_on_text", measured(shuffle=True, drop=True), "answers differently"),
    ("losses_on_text", measured(length=6), "6 tokens long"),
    ("losses_on_text", measured(swapped=True), "exchanged"),
    ("losses_on_text", measured(split=by_tokens), "of its tokens"),
    ("losses_on_text", measured(split=lambda _, text: len(text) // 2), "the losses are"),
    ("losses_on_text", measured(restore=False), "left in the other"),
    ("losses_on_text", parts_left_in_evaluation, "of a part of it"),
    ("losses_on_text", frozen_for_good, "requires_grad (it was True): put it back"),
    ("losses_on_text", only_validation, "two losses"),
    ("losses_on_text", lambda *given: [math.nan, 3.0], "numbers that are finite"),
    ("losses_on_text", perplexities, "these are perplexities"),
    ("losses_on_text", in_bits, "these are bits"),
    ("bytes_needed", needed(weights=untied), "count it twice"),
    ("bytes_needed", needed(weights=without_biases), "have biases"),
    ("bytes_needed", needed(size=lambda n: 1), "bytes are asked for"),
    ("bytes_needed", needed(size=lambda n: 4), "bytes_per_number is not used"),
    ("bytes_needed", needed(weights=lambda cfg, count: count + 1), "the weights need"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept // 2), "values are kept"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept // cfg["n_layers"]), "of its own"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept * cfg["n_heads"]), "all heads together"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept // 1024), "one token's"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept + 1), "the cache needs"),
    ("bytes_needed", needed(cache=lambda cfg, kept: kept // cfg["n_heads"]), "not one"),
    ("bytes_needed", lambda name, size: needed()(name, size)[::-1], "are exchanged"),
    ("bytes_needed", lambda name, size: (1,), "two numbers"),
    ("bytes_needed", lambda name, size: sum(needed()(name, size)), "two numbers are asked for"),
    ("bytes_needed", with_numbers, "you build a model with numbers in it"),
    ("copy_gpt2", copied(turned(*ALL)), "W_query.weight is not transposed"),
    ("copy_gpt2", copied(turned("out_proj")), "out_proj.weight is not transposed"),
    ("copy_gpt2", copied(turned("W_value")), "W_value.weight is not transposed"),
    ("copy_gpt2", copied(swapped), "queries and keys are swapped"),
    ("copy_gpt2", copied(swapped_and_turned), "queries and keys are swapped"),
    ("copy_gpt2", copied(swapped_in_the_last), "block 1: queries and keys are swapped"),
    ("copy_gpt2", copied(head_as_it_was), "left as it was"),
    ("copy_gpt2", copied(head_cut_loose), "no longer"),
    ("copy_gpt2", copied(norms_forgotten), "final_norm.shift"),
    ("copy_gpt2", copied(norms_exchanged), "norm1.scale holds what belongs to"),
    ("copy_gpt2", copied(thirds_in_another_order), "queries, keys, values in this order"),
    ("copy_gpt2", copied(biases_in_another_order), "W_key.bias holds what belongs to"),
    ("copy_gpt2", biases_forgotten, "W_query.bias was left as it was"),
    ("copy_gpt2", copied(tied_for_good), "was not tied and now is"),
    ("copy_gpt2", memory_shared, "shares its memory"),
    ("copy_gpt2", copied(change=rows_spread), "wpe.weight of shape (1, 24)"),
    ("copy_gpt2", copied(change=as_many_numbers), "its numbers in other places"),
    ("copy_gpt2", shapes_asserted, "another shape raised AssertionError; a ValueError is"),
    ("copy_gpt2", copied(other_eps), "the logits differ"),
    ("copy_gpt2", copied(change=spread), "spread over the whole"),
    (
        "copy_gpt2",
        wrong_shape_is_a_runtime_error,
        "another shape raised RuntimeError; a ValueError is",
    ),
    ("copy_gpt2", changes_what_it_gets, "changed what it was given"),
    ("copy_gpt2", uses_up_what_it_gets, "changed what it was given"),
    ("copy_gpt2", a_new_model, "that was given"),
    ("copy_gpt2", by_the_lesson, "by the lesson's gpt2_views"),
    ("copy_gpt2", nothing_returned, "returned None"),
    ("copy_gpt2", lambda gpt, params: gpt, "was left as it was"),
    ("copy_gpt2", c_fc_not_turned, "raised RuntimeError"),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    torch.manual_seed(0)
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text
    assert says in result.text


def test_a_right_answer_is_told_the_losses_of_course_gpt_on_the_story():
    model, _ = models.load_model(models.COURSE_GPT)
    story = editions.STORY.read_text(encoding="utf-8")
    losses = measured()(model, encodings.course_encoding(), story)
    text = check.losses_on_text(answers("solutions.ipynb")["losses_on_text"]).text
    assert f"{losses[0]:.2f} in its first nine tenths, {losses[1]:.2f} in its last tenth" in text


def test_other_right_answers_are_accepted(short_story):
    def one_by_one(model, tokenizer, text):
        T, at = model.pos_emb.num_embeddings, int(0.9 * len(text))
        found = []
        with evaluation_mode(model), torch.no_grad():
            for part in (text[:at], text[at:]):
                ids, losses = torch.tensor(tokenizer.encode(part)), []
                for start in range(0, len(ids) - T, T):
                    logits = model(ids[None, start : start + T])[0]
                    losses.append(F.cross_entropy(logits, ids[start + 1 : start + T + 1]))
                found.append(torch.stack(losses).mean())
        return torch.stack(found)

    def by_formula(name, size):
        cfg = gpt2_config(name)
        V, T, C, L = (cfg[k] for k in ("vocab_size", "context_length", "emb_dim", "n_layers"))
        return [size * (V * C + T * C + 2 * C + L * (12 * C * C + 13 * C)), 2 * L * T * C * size]

    assert check.losses_on_text(one_by_one).ok
    assert (
        check.losses_on_text(measured(batch=1)).ok and check.losses_on_text(measured(batch=64)).ok
    )
    assert check.bytes_needed(by_formula).ok and check.bytes_needed(needed()).ok
    assert check.copy_gpt2(copied()).ok
