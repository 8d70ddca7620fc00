"""Chapter 3's pictures: what they compute is right, and what they draw is all there."""

import matplotlib.pyplot as plt
import pytest
import torch

from shared import encodings, models, plotting
from shared.attention import MultiHeadAttentionExplicit, future_mask
from shared.gpt_model import GPTModel
from shared.pictures import ch03 as pictures

SMALL = {"vocab_size": 50, "context_length": 16, "emb_dim": 12, "n_heads": 3}
SMALL |= {"n_layers": 2, "drop_rate": 0.0, "qkv_bias": True}


def explicit_maps(model, ids):
    """The weights that the explicit form keeps, in a model whose attention layers are exchanged for it."""
    for block in model.trf_blocks:
        old = block.att
        sizes = old.d_in, old.d_out, old.context_length, 0.0, old.num_heads
        block.att = MultiHeadAttentionExplicit(*sizes, qkv_bias=old.W_query.bias is not None)
        block.att.load_state_dict(old.state_dict())
    with torch.no_grad():
        model(torch.tensor([ids]))
    return torch.stack([block.att.weights[0] for block in model.trf_blocks])


def test_attention_maps_are_those_of_the_explicit_form():
    torch.manual_seed(123)
    model, ids = GPTModel(SMALL).eval(), [3, 1, 4, 1, 5, 9, 2]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    found = pictures.attention_maps(model, ids)
    assert found.shape == (2, 3, 7, 7)
    assert torch.allclose(found, explicit_maps(model, ids), atol=1e-6)


def test_attention_maps_of_the_course_s_own_model():
    model, cfg = models.load_model(models.COURSE_GPT)
    ids = encodings.course_encoding().encode("The same old man, the same lamp.")
    found = pictures.attention_maps(model, ids)
    assert found.shape == (cfg["n_layers"], cfg["n_heads"], len(ids), len(ids))
    assert not any(block.att._forward_pre_hooks for block in model.trf_blocks)
    assert torch.allclose(found, explicit_maps(model, ids), atol=1e-5)


def texts(fig):
    return [text.get_text() for text in fig.findobj(plt.Text) if text.get_text()]


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_one_query_shows_every_number():
    torch.manual_seed(123)
    query, keys, values = torch.rand(2), torch.rand(4, 2), torch.rand(4, 3)
    weights = torch.softmax(keys @ query, dim=0)
    numbers = [query, keys, keys @ query, weights, values, weights @ values]
    shown = texts(pictures.one_query("c", [*"abcd"], *numbers[:4], values, weights @ values))
    for tensor in numbers:
        assert all(f"{number:.2f}" in shown for number in tensor.flatten().tolist())


def test_projections_show_the_products():
    torch.manual_seed(123)
    x, matrices = torch.rand(3), {"query": torch.rand(3, 2), "key": torch.rand(3, 2)}
    shown = texts(pictures.projections(x, matrices))
    for matrix in matrices.values():
        assert all(f"{number:.2f}" in shown for number in (x @ matrix).tolist())


def test_masking_hides_what_the_mask_hides():
    hidden = future_mask(4, 4)
    shown = texts(pictures.masking(torch.rand(4, 4), hidden, torch.rand(4, 4).tril(), [*"abcd"]))
    assert shown.count("−∞") == hidden.sum() == 6


def test_who_sees_whom_names_what_it_finds():
    seen = torch.ones(3, 3).tril()
    for moved, wrong in [
        (seen, None),
        (torch.ones(3, 3), "sees the future"),
        (torch.eye(3), "blind to the past"),
    ]:
        shown = texts(pictures.who_sees_whom({"a way": moved}, [*"abc"]))
        assert {"sees the future", "blind to the past"} & {*shown} == ({wrong} if wrong else set())


def test_the_other_pictures_name_their_parts():
    keys = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.2]])
    fig = pictures.query_and_keys(torch.tensor([2.0, 1.0]), keys, [*"abc"], ["a", "c"])
    assert {"a", "c", "query", "the 1 other words"} <= {*texts(fig)}
    assert {"head 0", "head 1", "11"} <= {
        *texts(pictures.head_split(torch.arange(12).reshape(3, 4), 2))
    }
    assert {"one", "other", "b"} <= {
        *texts(plotting.heats({"one": torch.eye(2), "other": torch.eye(2)}, [*"ab"], "weight"))
    }
