"""The network of dtrain's speed run (src/model/speed-net.ts) in PyTorch: a fixed layer that whitens 2x2 patches, then three groups of two
convolutions that begin as the identity, pooled early. After airbench94 (Jordan, arXiv 2404.00498).
"""

import torch
import torch.nn.functional as F
from torch import nn

# Haar's patterns of a 2x2 patch in rows, and opponent colours; their variances over CIFAR-10's normalised training images.
PATTERNS = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=torch.float32)
COLOURS = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float32)
VARIANCES = torch.tensor(
    [[10.13, 0.747, 0.175], [0.402, 0.00561, 0.00221], [0.347, 0.00378, 0.00166], [0.0555, 0.00022, 0.00014]]
)
LEAST_VARIANCE = 5e-4


def whitening():
    """[24, 3, 2, 2]: each pattern of each colour at unit variance, and its negative."""
    patterns, colours = F.normalize(PATTERNS), F.normalize(COLOURS)
    filters = torch.einsum("pt,cr->pcrt", patterns, colours) / (VARIANCES + LEAST_VARIANCE).sqrt()[:, :, None, None]
    filters = filters.reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


class SpeedNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.whitening = Whitening()
        self.layer1 = Group(24, 64)
        self.layer2 = Group(64, 256)
        self.layer3 = Group(256, 256)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.whitening(x))))
        return self.fc(F.max_pool2d(x, x.shape[-1]).flatten(1))


class Whitening(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", whitening(), persistent=False)
        self.bias = nn.Parameter(torch.zeros(24))

    def forward(self, x):
        return F.relu(F.conv2d(x, self.weight, self.bias))


class Group(nn.Module):
    def __init__(self, in_channels, channels):
        super().__init__()
        self.conv1 = identity_convolution(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = identity_convolution(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        x = F.relu(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        return F.relu(self.bn2(self.conv2(x)))


def identity_convolution(in_channels, channels):
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.dirac_(conv.weight.data[:in_channels])
    return conv
