"""Self-learning subspace diffusion: schedule, networks, training, guidance and Algorithm 1 of ARGS-Diff (Zhu et al., CVPR 2025)."""

from geofuse.diffusion.guidance import Observation, product
from geofuse.diffusion.options import PaperOptions
from geofuse.diffusion.sampler import Component, Reconstruction, reverse_diffusion
from geofuse.diffusion.schedule import add_noise, exponential_schedule, sampling_times
from geofuse.diffusion.spatial_network import SpatialNetwork
from geofuse.diffusion.spectral_network import SpectralNetwork
from geofuse.diffusion.training import train_spatial_network, train_spectral_network
from geofuse.diffusion.training_data import SpatialSampler, SpectralSampler, ValueRange

__all__ = [
    "Component",
    "Observation",
    "PaperOptions",
    "Reconstruction",
    "SpatialNetwork",
    "SpatialSampler",
    "SpectralNetwork",
    "SpectralSampler",
    "ValueRange",
    "add_noise",
    "exponential_schedule",
    "product",
    "reverse_diffusion",
    "sampling_times",
    "train_spatial_network",
    "train_spectral_network",
]
