"""Layers of ours against torch's."""

import pytest
import torch
from torch import nn

from latentmill.errors import InputError
from latentmill.networks import NetworkConfig, code_shape, decoder, encoder
from latentmill.networks.conv import DoublingToFew


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (14, 14)], ids=str)
def test_doubling_is_a_transposed_convolution_forward_and_backward(size, outputs):
    torch.manual_seed(0)
    layer = DoublingToFew(6, outputs).double()
    x = torch.randn(4, 6, *size, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x), nn.ConvTranspose2d.forward(layer, x)
    torch.testing.assert_close(ours, theirs)
    wanted = (x, layer.weight, layer.bias)
    gradient = torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, wanted, gradient), torch.autograd.grad(theirs, wanted, gradient)
    )


@pytest.mark.parametrize("code", ["vector", "image"])
@pytest.mark.parametrize("downsample", [None, 2, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 50), (4, 8, 16)], ids=str)
def test_residual_networks_fit_any_image(shape, downsample, code):
    config = NetworkConfig(network="residual", channels=4, downsample=downsample, code=code, attention=True)
    images = torch.rand(2, *shape)
    assert decoder(config, 5, shape)(torch.randn(2, *code_shape(config, 5, shape))).shape == images.shape
    assert encoder(config, shape, 5)(images).shape[1:] == code_shape(config, 5, shape)


def test_rows_of_a_batch_do_not_depend_on_one_another():
    torch.manual_seed(0)
    network = encoder(NetworkConfig(network="residual", channels=4, attention=True, depth=2), (1, 12, 12), 3)
    images = torch.rand(5, 1, 12, 12)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


def test_only_residual_networks_have_codes_that_are_images():
    with pytest.raises(InputError, match="code: image needs network: residual, but got network: conv"):
        code_shape(NetworkConfig(network="conv", code="image"), 3, (1, 8, 8))
