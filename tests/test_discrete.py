"""Codes that are indices into a codebook: quantisation, the prior that draws them, and what has no meaning for them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, build
from exported import export
from pairs import fitted

from latentmill import Decoder, registry
from latentmill.codes import Generator, codes_of
from latentmill.config import Settings, TrainingConfig
from latentmill.contract import HasCodebook, Model
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.evaluation.latent import codebook_use
from latentmill.export.graphs import export as export_graph
from latentmill.export.graphs import graphs
from latentmill.export.refusal import Refused
from latentmill.export.verification import largest_difference
from latentmill.training.loop import train

FSQ, VQ = {"levels": [4, 3], "channels": 8}, {"entries": 12, "latent": 4, "channels": 8}
CHAIN = torch.tensor([[0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])  # p(next | this)


# Finite scalar quantisation


def test_indices_and_levels_are_one_to_one():
    model = build("fsq", {"levels": [4, 3, 2]})
    assert model.entries == 24
    levels = model.levels_at(torch.arange(24.0)[:, None, None])  # (24, 3, 1, 1)
    assert {tuple(each) for each in levels.flatten(1).tolist()} == set(itertools.product(range(4), range(3), range(2)))
    assert torch.equal((levels * model.places).sum(1), torch.arange(24.0)[:, None, None])


def test_levels_are_the_nearest_and_their_gradient_is_that_of_what_was_rounded(digits):
    model, images = build("fsq", FSQ), Batches(digits)[:20]
    y = model.encoder(images).detach().mul(5).requires_grad_()
    levels, expected = model.rounded(y), model.steps * torch.sigmoid(y)
    assert torch.equal(levels, expected.round())
    weights = torch.randn(levels.shape)
    found, wanted = (torch.autograd.grad((weights * each).sum(), y)[0] for each in (levels, expected))
    torch.testing.assert_close(found, wanted)


def test_reconstructions_are_decoded_codes(trained, digits):
    """What an application decodes is what was trained."""
    images = Batches(digits)[:20]
    for name, config in (("fsq", FSQ), ("vq", VQ)):
        model, _ = trained(name, config)
        with torch.no_grad():
            made = model.decode(model.encode(images))
            error = 0.5 * (images - made).square().flatten(1).sum(1)
            torch.testing.assert_close(model.criterion({"image": images}, {}), error)


# Vector quantisation


def test_an_index_is_that_of_the_nearest_entry(digits):
    model, images = build("vq", VQ), Batches(digits)[:20]
    with torch.no_grad():
        y = model.encoder(images).movedim(1, -1)  # (20, 4, 4, d)
        distances = (y[..., None, :] - model.codebook).norm(dim=-1)
        assert torch.equal(model.encode(images), distances.argmin(-1).float())


def test_the_decoder_moves_the_encoder_and_the_codebook_follows_it(digits):
    """The gradient passes the choice of the entry as if it were not there; the codebook has none from the images."""
    batch = {"image": Batches(digits)[:20]}
    free, held = (build("vq", VQ | {"commitment": weight}) for weight in (0.0, 1e3))
    terms = free.loss(batch, {})
    moved = {name: grad for name, grad in gradients(free, terms["reconstruction"]).items() if grad is not None}
    assert any(name.startswith("encoder") for name in moved)
    assert "map" not in moved
    assert [name for name, grad in gradients(free, terms["codebook"]).items() if grad is not None] == ["map"]
    near, far = (model_gradient(model, batch) for model in (free, held))
    assert far > 10 * near


def gradients(model: Model, loss: torch.Tensor) -> dict[str, torch.Tensor | None]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def model_gradient(model: Model, batch: dict[str, torch.Tensor]) -> float:
    """The norm of the gradient of the encoder's first layer."""
    return float(gradients(model, model.loss(batch, {})["loss"])["encoder.1.weight"].norm())


@pytest.mark.parametrize(("name", "config", "least"), [("fsq", FSQ, 0.9), ("vq", VQ | {"entries": 64}, 0.7)])
def test_most_entries_are_in_use(name, config, least, setup):
    model = build(name, config)
    train(model, setup, TrainingConfig(epochs=10, batch_size=50, learning_rate=3e-3), seed=0)
    found = codebook_use(codes_of(model, setup.examples), model.entries)
    assert found["entries"] == model.entries
    assert found["entries_used"] >= least


def test_the_use_of_a_codebook_by_hand():
    found = codebook_use(np.array([[0, 1], [1, 0], [3, 3], [3, 3]], np.float32), entries=5)
    assert found == {"entries": 5, "entries_used": 0.6, "perplexity": pytest.approx(2 * 2**0.5)}
    assert codebook_use(np.zeros((3, 2), np.float32), entries=4)["perplexity"] == 1


# The autoregressive prior


def chains(count: int, seed: int) -> np.ndarray:
    """Indices (count, 2, 2) of which each depends on the one before, row by row."""
    generator, found = torch.Generator().manual_seed(seed), [torch.zeros(count, dtype=torch.int64)]
    for _ in range(4):
        found.append(torch.multinomial(CHAIN[found[-1]], 1, generator=generator)[:, 0])
    return torch.stack(found[1:], 1).unflatten(1, (2, 2)).float().numpy()


@pytest.fixture(scope="module")
def chained() -> Model:
    training = TrainingConfig(epochs=20, patience=20, batch_size=100, learning_rate=1e-2, schedule="one-cycle")
    return fitted("autoregressive", chains(2_000, 0), chains(500, 1), training, entries=3, hidden=16, dropout=0.0)


def noise_for(made: Model, count: int) -> torch.Tensor:
    return torch.randn(count, made.noise_width, generator=torch.Generator().manual_seed(0))


def every_code() -> torch.Tensor:
    """All 81 codes (81, 2, 2) of three entries."""
    return torch.tensor(list(itertools.product(range(3), repeat=4))).float().unflatten(1, (2, 2))


@torch.no_grad()
def test_the_criterion_is_a_distribution_over_codes_and_draws_follow_it(chained):
    z = every_code()
    p = (-chained.criterion({"code": z}, {})).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    drawn = chained.generate(noise_for(chained, 40_000)).flatten(1).long() @ torch.tensor([27, 9, 3, 1])
    shares = torch.bincount(drawn, minlength=81) / 40_000
    assert float((shares - p).abs().max()) < 0.005
    assert 0.5 * float((shares - p).abs().sum()) < 0.03


@torch.no_grad()
def test_it_learns_the_distribution_of_codes(chained):
    first = torch.cat([torch.zeros(81, 1, dtype=torch.int64), every_code().flatten(1).long()], 1)
    exact = -CHAIN[first[:, :-1], first[:, 1:]].log().sum(1)
    weights = (-exact).exp()
    excess = float((weights * (chained.criterion({"code": every_code()}, {}) - exact)).sum())
    assert 0 <= excess < 0.03, "nats of the Kullback-Leibler divergence"


@torch.no_grad()
def test_a_place_sees_those_before_it_alone():
    torch.manual_seed(0)
    made = registry.build("priors", "autoregressive", {"hidden": 16}, (3, 4), entries=7).eval()
    indices = torch.randint(7, (5, 12))
    before = made.network(indices)
    for place in range(12):
        changed = indices.clone()
        changed[:, place] = (changed[:, place] + 1) % 7
        after = made.network(changed)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert place == 11 or not torch.equal(after[:, place + 1], before[:, place + 1])


@torch.no_grad()
def test_draws_are_quantiles_of_the_probabilities_given_those_before(chained):
    noise = noise_for(chained, 50)
    drawn = chained.generate(noise).flatten(1).long()
    cumulative = chained.network(drawn).softmax(2).cumsum(2)
    below = cumulative.gather(2, (drawn - 1).clamp(min=0)[..., None])[..., 0].masked_fill(drawn == 0, 0)
    uniform = torch.special.ndtr(noise)
    assert (below <= uniform).all()
    assert (uniform <= cumulative.gather(2, drawn[..., None])[..., 0] + 1e-6).all()


@pytest.mark.parametrize("value", [-9.0, 9.0])
def test_extreme_noise_draws_an_index_too(chained, value):
    drawn = chained.generate(torch.full((3, 4), value))
    assert set(drawn.flatten().tolist()) == {0.0 if value < 0 else 2.0}


def test_no_noise_is_scaled_by_a_temperature(chained):
    assert chained.categorical_noise == chained.noise_width == 4


def test_a_learned_label_chooses_among_codes():
    codes, labels = chains(1_000, 0), np.arange(1_000) % 2
    codes[labels == 1] = 2
    training = TrainingConfig(epochs=8, patience=8, batch_size=100, learning_rate=1e-2)
    config = {"entries": 3, "hidden": 16, "labels": "learned"}
    made = fitted("autoregressive", codes, codes, training, (labels, labels), **config)
    assert made.is_conditional
    with torch.no_grad():
        drawn = made.generate(noise_for(made, 400), torch.arange(400) % 2)
    assert (drawn[1::2] == 2).float().mean() > 0.97
    assert (drawn[::2] == 2).float().mean() < 0.5
    assert not registry.build("priors", "autoregressive", {"labels": "learned"}, (2, 2), 1, 3).is_conditional


def test_dropout_is_of_training_alone():
    codes = torch.from_numpy(chains(40, 0))
    made = registry.build("priors", "autoregressive", {"hidden": 16, "dropout": 0.5}, (2, 2), entries=3)
    bits = {
        share: {"units": torch.full((40, 16), value, dtype=torch.int16)}
        for share, value in ((1, -(2**15)), (0, 2**15 - 1))
    }
    losses = {share: made.loss({"code": codes}, noise)["loss"] for share, noise in bits.items()}
    assert not torch.allclose(losses[0], losses[1])
    assert made.criterion_draws == {}


# Its export


class Rounds(Model, HasCodebook):
    """An index is 3 times the mean of a pixel over the channels, rounded."""

    entries, code_shape = 4, (1, 1)

    def __init__(self) -> None:
        super().__init__(Settings(), (1, 1, 1))

    def encode(self, images, label=None):
        return (3 * images).round()[:, 0]

    def decode(self, z, label=None):
        return z[:, None] / 3


@pytest.mark.parametrize(("rows", "is_refused"), [(3, False), (4, True)])
def test_a_few_rows_may_have_other_indices_than_torchs(rows, is_refused, monkeypatch, tmp_path):
    """Where two are equally likely, rounding decides; a graph that differs in more is wrong."""
    prior = registry.build("priors", "autoregressive", {"hidden": 4}, (1, 1), entries=4)
    encoder = next(graph for graph in graphs(Generator(Rounds(), prior)) if graph.name == "encoder")
    export_graph(encoder, tmp_path / "encoder.onnx", {})
    assert largest_difference(encoder, tmp_path / "encoder.onnx") == 0
    plain = encoder.function

    def other(images):
        """Rows of the largest batch have another index."""
        (z,) = plain(images)
        return (torch.where(torch.arange(len(z))[:, None, None] < rows * (len(z) > 2), 3 - z, z),)

    changed = replace(encoder, function=other)
    if is_refused:
        with pytest.raises(Refused, match=r"the same choices as torch for all but 5% of rows, but .* 4 of 68"):
            largest_difference(changed, tmp_path / "encoder.onnx")
    else:
        assert largest_difference(changed, tmp_path / "encoder.onnx") == 0


# An application


@pytest.fixture(scope="module", params=["fsq", pytest.param("vq", marks=pytest.mark.slow)])
def folder(request, tmp_path_factory):
    config = {"fsq": FSQ, "vq": VQ}[request.param]
    labelled = {"hidden": 16, "labels": "learned"}
    return export(
        request.param,
        config,
        IMAGE_SHAPE,
        tmp_path_factory.mktemp("discrete"),
        "autoregressive",
        labelled,
        {"fp16": 0.5},
    )


def test_an_application_draws_decodes_and_encodes_indices(folder):
    decoder = Decoder(folder)
    assert (decoder.codebook, decoder.code_shape) == (12, (4, 4))
    z = decoder.draw(30, seed=0, label="cat")
    assert np.isin(z, np.arange(12)).all()
    images = decoder.sample(30, seed=0, label="cat")
    np.testing.assert_allclose(decoder.decode(z), images, atol=1e-5)
    assert np.isin(decoder.encode(images)[0], np.arange(12)).all()
    np.testing.assert_allclose(Decoder(folder, format="fp16").decode(z), images, atol=0.01)


def test_temperature_changes_no_draw_of_indices(folder):
    decoder = Decoder(folder)
    np.testing.assert_array_equal(decoder.draw(9, seed=0, temperature=0.3), decoder.draw(9, seed=0))


@pytest.mark.parametrize("wrong", [0.5, -1, 12])
def test_only_indices_are_decoded(folder, wrong):
    z = np.zeros((1, 4, 4))
    z[0, 1, 2] = wrong
    with pytest.raises(InputError, match=f"z must be indices, whole numbers from 0 to 11, but got {wrong}"):
        Decoder(folder).decode(z)


def test_between_indices_there_is_no_path(folder):
    decoder = Decoder(folder)
    z = decoder.draw(2, seed=0)
    for made in (lambda: decoder.interpolate(*z), lambda: decoder.traverse(z[0], 0)):
        with pytest.raises(InputError, match=r"a path needs codes between two codes, but those of .* are indices"):
            made()
    assert decoder.card["directions"] == []
    assert decoder.card["codes"] is None
    assert "interpolate" not in (folder / "card.md").read_text()
