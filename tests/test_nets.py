"""Layers of ours against torch's."""

import pytest
import torch
from torch import nn

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
