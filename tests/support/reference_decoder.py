"""BlackVIP's decoder as released, in torch's own layers."""

from torch import nn


def reference_decoder(stages: int, momentum: float = 1.0) -> nn.Sequential:
    """Layers; fewer hidden stages for small images. `momentum` is the weight of the latest batch in BatchNorm."""
    layers: list[nn.Module] = []
    for into, wide, out in [(32, 64, 64), (64, 64, 32), (32, 32, 32), (32, 32, 16)][: stages - 1]:
        layers += [nn.ConvTranspose2d(into, wide, 2, 2, groups=into), nn.ConvTranspose2d(wide, out, 1, bias=False)]
        layers += [nn.BatchNorm2d(out, momentum=momentum), nn.GELU()]
    last = layers[-2].num_features if layers else 32
    return nn.Sequential(*layers, nn.ConvTranspose2d(last, 3, 2, 2, bias=False))
