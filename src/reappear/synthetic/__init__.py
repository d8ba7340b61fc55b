"""A world that films people whose identities are known. Deterministic for each seed; numpy, OpenCV and PyAV only."""

from .cameras import Camera, install
from .films import Shot, record, shoot, shoot_probe
from .people import Person, crowd
from .scenes import Frame, picture
from .tracklets import TrackletPlan, TrackletTruth, draw_tracklets, embedded_tracklets, tracklets
from .walks import Walk
from .world import Film, World, imagine

__all__ = [
    "Camera",
    "Film",
    "Frame",
    "Person",
    "Shot",
    "TrackletPlan",
    "TrackletTruth",
    "Walk",
    "World",
    "crowd",
    "draw_tracklets",
    "embedded_tracklets",
    "imagine",
    "install",
    "picture",
    "record",
    "shoot",
    "shoot_probe",
    "tracklets",
]
