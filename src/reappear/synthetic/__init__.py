"""Synthetic videos and crops of people with known identities. Deterministic for each seed; numpy, OpenCV, PyAV only."""

from .cameras import Camera, draw_cameras
from .films import PersonImage, encode_film, render_film, render_test_images
from .people import Person, draw_people
from .scenes import Frame, render_frame
from .tracklets import TrackletPlan, TrackletTruth, draw_tracklets, embedded_tracklets, render_tracklets
from .walks import Walk
from .world import Film, World, WorldSettings, generate_world

__all__ = [
    "Camera",
    "Film",
    "Frame",
    "Person",
    "PersonImage",
    "TrackletPlan",
    "TrackletTruth",
    "Walk",
    "World",
    "WorldSettings",
    "draw_cameras",
    "draw_people",
    "draw_tracklets",
    "embedded_tracklets",
    "encode_film",
    "generate_world",
    "render_film",
    "render_frame",
    "render_test_images",
    "render_tracklets",
]
