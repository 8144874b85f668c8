"""The generic network: a denoiser of MSI components taught on generated scenes, shipped with the package.

It knows what land looks like, not what this scene looks like; the scene's own network
(:class:`geofuse.diffusion.texture_network.TextureNetwork`) starts from its estimate and learns the rest. The weights are a
safetensors file beside this module, written by :mod:`geofuse.diffusion.pretrain`, under the project's own licence. Its metadata
entry ``geofuse_generic`` is a JSON object {"schema": 1, "command": how it was made, "steps_done": number, "seconds": of CPU,
"licence": "Apache-2.0"}; the sizes of the network are those of its weights.
"""

from __future__ import annotations

from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, pad, pixel_shuffle, pixel_unshuffle

MOST_COMPONENTS = 8
WEIGHTS = "generic_texture.safetensors"
ENTRY = "geofuse_generic"
SCHEMA = 1
_STRIDE = 2
_KINDS = 3  # each component enters scaled by its spread, as fine detail and as coarse detail
_DETAILS = ((1, 3.0), (4, 6.0))  # radius in pixels, soft limit in noise units


class GenericNetwork(nn.Module):
    """Estimates clean components from noisy ones, for any MSI of up to eight bands.

    The image is folded to half its size and four times its channels, which widens the reach at no cost (FFDNet: Zhang, Zuo and
    Zhang 2018). Pixels are folded by their position in the input: callers align it with absolute positions.

    Parameters
    ----------
    width, depth
        Channels, and convolutions between the first and the last (an even number).
    """

    def __init__(self, width: int = 64, depth: int = 6) -> None:
        """Build the layers; the last starts at zero, so that the network starts as the identity."""
        super().__init__()
        folded = _STRIDE**2 * MOST_COMPONENTS
        self.first = nn.Conv2d(_KINDS * folded + MOST_COMPONENTS + 1, width, 3, padding=1)
        self.body = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)])
        self.last = nn.Conv2d(width, folded, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def reach(self) -> int:
        """How many pixels away an input still matters."""
        return _STRIDE * (len(self.body) + 2) + 1 + max(radius for radius, _ in _DETAILS)

    def forward(self, state: Tensor, level: Tensor, spread: Tensor) -> Tensor:
        """Estimate clean components.

        Parameters
        ----------
        state
            (B, c, H, W) in noise units, strongest component first. Components beyond the eighth are returned as they are.
        level
            (B,) standard deviation of the noise, above zero.
        spread
            (B, c) standard deviation of each component over its scene.
        """
        components, (height, width) = min(state.shape[1], MOST_COMPONENTS), state.shape[2:]
        missing = MOST_COMPONENTS - components
        known = pad(state[:, :components], (0, width % 2, 0, height % 2), mode="replicate")
        spread = pad(spread[:, :components], (0, missing), value=1.0)[:, :, None, None]
        known = pad(known, (0, 0, 0, 0, 0, missing))
        level = level.view(-1, 1, 1, 1)
        inputs = [known / spread, *(_detail(known, *detail) for detail in _DETAILS)]
        folded = pixel_unshuffle(torch.cat(inputs, dim=1), _STRIDE)
        constants = torch.cat([spread.log() / 4, (level - 1).expand(len(state), 1, 1, 1)], dim=1)
        constants = constants.expand(-1, -1, *folded.shape[2:])
        hidden = gelu(self.first(torch.cat([folded, constants], dim=1).contiguous(memory_format=torch.channels_last)))
        for one, two in zip(self.body[::2], self.body[1::2], strict=True):
            hidden = hidden + two(gelu(one(hidden)))
        noise = pixel_shuffle(self.last(gelu(hidden)).float(), _STRIDE)[:, :components, :height, :width]
        return torch.cat([state[:, :components] - level * noise, state[:, components:]], dim=1)


def load_generic_network() -> GenericNetwork:
    """Read the shipped network; its weights are not to be learnt."""
    data = files("geofuse.diffusion").joinpath(WEIGHTS).read_bytes()
    weights = {name: value.float() for name, value in load(data).items()}
    depth = sum(name.startswith("body.") and name.endswith(".weight") for name in weights)
    network = GenericNetwork(weights["first.weight"].shape[0], depth)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _detail(image: Tensor, radius: int, limit: float) -> Tensor:
    """Return the difference to the local mean, softly limited."""
    mean = avg_pool2d(pad(image, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
    difference = image - mean
    return difference / (limit + difference.abs())
