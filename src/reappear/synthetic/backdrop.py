"""Renders the static background: ground, wall with doors and windows, trees, benches, lamps.

Ground and wall are drawn flat, in metres, and then warped into perspective.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from reappear.core import generator

from .cameras import Camera

_PIXELS_PER_METRE = 64  # of a flat texture
_SUPERSAMPLING = 2  # the view is rendered this many times larger, then shrunk
_WALL_HEIGHT = 5.0
_DOOR_HALF, _DOOR_HEIGHT = 0.62, 2.25
_HALF_WIDTH = 14.0  # metres of wall and ground on either side of the middle
_DEPTH = 22.0  # metres of ground from the camera

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Prop:
    """An object that people can walk behind.

    Attributes:
        pixels: RGB premultiplied by coverage, and coverage.
        left: First column.
        top: First row.
        z: Distance in metres; it occludes people farther away.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    left: int
    top: int
    z: float


@dataclass(frozen=True)
class Backdrop:
    """A camera's view without people.

    Attributes:
        image: The view.
        opening: Pixels that are not wall: doors and ground.
        props: Objects in front of the wall, from far to near.
    """

    image: UInt8[np.ndarray, "h w 3"]
    opening: Bool[np.ndarray, "h w"]
    props: tuple[Prop, ...]


@lru_cache(maxsize=8)
def render_backdrop(camera: Camera) -> Backdrop:
    """Renders the empty background of a camera."""
    rng = generator(camera.seed, "backdrop")
    width, height = camera.size
    rows, columns = (np.mgrid[: height * _SUPERSAMPLING, : width * _SUPERSAMPLING] + 0.5) / _SUPERSAMPLING
    ray = (columns - width / 2) / camera.focal
    # The wall: z = wall + slant * x and x = ray * z.
    wall_z = camera.wall / np.maximum(1 - camera.slant * ray, 0.2)
    wall_x = ray * wall_z
    above = (camera.horizon + camera.focal * camera.elevation / wall_z - rows) * wall_z / camera.focal
    ground_z = camera.focal * camera.elevation / np.maximum(rows - camera.horizon, 1)
    ground_x = ray * ground_z

    wall = _warp(_paint_wall(camera, rng), wall_x + _HALF_WIDTH, _WALL_HEIGHT - above)
    ground = _warp(_paint_ground(camera, rng), ground_x + _HALF_WIDTH, ground_z)
    is_wall = above > 0
    image = np.where(is_wall[..., None], wall, ground).astype(np.float32)
    # Ground is darker where it meets the wall, the wall a little darker towards its foot and the corners of the view.
    meet = np.clip(np.abs(np.where(is_wall, above, (wall_z - ground_z) * 0.5)) / 0.5, 0, 1)
    corner = np.hypot((columns - width / 2) / width, (rows - height / 2) / height)
    image *= (0.8 + 0.2 * np.sqrt(meet))[..., None] * (1.02 - 0.22 * corner[..., None] ** 2)
    light = 1 + 0.08 * camera.light * (columns / width - 0.5)
    image *= light[..., None]
    bare = cv2.resize(np.clip(image, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)

    opening = np.zeros(is_wall.shape, bool)
    for door in camera.doors:
        opening |= (np.abs(wall_x - door) < _DOOR_HALF) & (above < _DOOR_HEIGHT)
    opening |= ~is_wall
    seen_through = opening[_SUPERSAMPLING // 2 :: _SUPERSAMPLING, _SUPERSAMPLING // 2 :: _SUPERSAMPLING]
    props = _draw_props(camera, rng)
    for prop in props[: len(props) - _STANDING]:
        alpha_composite(bare, prop.pixels, prop.left, prop.top)
    return Backdrop(np.asarray(bare), seen_through, tuple(props[len(props) - _STANDING :]))


_STANDING = 2  # props that people walk behind; the others stand at the wall


def alpha_composite(
    image: UInt8[np.ndarray, "h w 3"], pixels: UInt8[np.ndarray, "a b 4"], left: int, top: int
) -> tuple[slice, slice]:
    """Composites premultiplied pixels over an image ("over" operation), in place.

    Returns:
        The rows and columns of `pixels` that lie inside the image.
    """
    y0, x0 = max(-top, 0), max(-left, 0)
    y1, x1 = min(pixels.shape[0], image.shape[0] - top), min(pixels.shape[1], image.shape[1] - left)
    if y1 <= y0 or x1 <= x0:
        return slice(0, 0), slice(0, 0)
    inside = slice(y0, y1), slice(x0, x1)
    piece = pixels[inside]
    region = image[top + y0 : top + y1, left + x0 : left + x1]
    clear = 255 - piece[..., 3:].astype(np.uint16)
    region[:] = piece[..., :3] + ((region * clear + 127) // 255).astype(np.uint8)
    return inside


def _warp(texture: UInt8[np.ndarray, "a b 3"], right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Samples a flat texture at coordinates in metres."""
    return np.asarray(
        cv2.remap(
            texture,
            (right * _PIXELS_PER_METRE).astype(np.float32),
            (down * _PIXELS_PER_METRE).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def _uneven_brightness(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> np.ndarray:
    """Uneven brightness at several scales, around 1."""
    out = np.zeros(shape, np.float32)
    for cells, weight in ((6, 0.5), (24, 0.3), (90, 0.25), (360, 0.2)):
        size = (max(cells, 2), max(cells * shape[0] // shape[1], 2))
        noise = rng.normal(0, 1, (size[1], size[0])).astype(np.float32)
        out += weight * cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(1 + strength * out[..., None])


def _vary_colour(rng: np.random.Generator, base: RGB, spread: float) -> RGB:
    """A colour near `base`: lighter or darker, and a little off."""
    tone, *off = (rng.normal(0, 1, 4) * spread).tolist()
    return _colour([channel + tone + 0.25 * part for channel, part in zip(base, off, strict=True)])


def _colour(channels: list[float]) -> RGB:
    r, g, b = (min(max(int(channel), 0), 255) for channel in channels)
    return r, g, b


def _random_hue(rng: np.random.Generator) -> RGB:
    """A colour of a poster, an awning, or goods in a shop window."""
    hue, value = int(rng.integers(180)), int(rng.integers(120, 215))
    r, g, b = cv2.cvtColor(np.array([[[hue, 130, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return r, g, b


def _rectangle(image: np.ndarray, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
    """In metres."""
    corners = [(round(x * _PIXELS_PER_METRE), round(y * _PIXELS_PER_METRE)) for x, y in ((x0, y0), (x1, y1))]
    cv2.rectangle(image, corners[0], corners[1], colour, -1)


def _tiles(
    rng: np.random.Generator, image: np.ndarray, width: float, height: float, colour: RGB, spread: float, joint: RGB
) -> None:
    """Covers an image with bricks or slabs of a size in metres, every other row shifted by half."""
    image[:] = joint
    rows, columns = (
        int(image.shape[0] / _PIXELS_PER_METRE / height) + 1,
        int(image.shape[1] / _PIXELS_PER_METRE / width) + 2,
    )
    tones = rng.normal(0, spread, (rows, columns)).tolist()
    gap = 1 / _PIXELS_PER_METRE
    for i in range(rows):
        for j in range(columns):
            x, y = (j - 0.5 * (i % 2)) * width, i * height
            tile = _colour([channel + tones[i][j] for channel in colour])
            _rectangle(image, x + gap, y + gap, x + width - gap, y + height - gap, tile)


def _paint_ground(camera: Camera, rng: np.random.Generator) -> UInt8[np.ndarray, "a b 3"]:
    """Columns: x from -_HALF_WIDTH, rows: z from 0."""
    shape = (round(_DEPTH * _PIXELS_PER_METRE), round(2 * _HALF_WIDTH * _PIXELS_PER_METRE))
    image = np.zeros((*shape, 3), np.uint8)
    middle = (camera.near + camera.wall) / 2
    if camera.theme == "street":
        _tiles(rng, image, 0.9, 0.6, _vary_colour(rng, (172, 168, 160), 5.0), 5.0, (140, 136, 130))
        kerb = middle - 1.2
        _rectangle(image, 0.0, 0.0, 2 * _HALF_WIDTH, kerb, _vary_colour(rng, (104, 106, 110), 5.0))
        _rectangle(image, 0.0, kerb, 2 * _HALF_WIDTH, kerb + 0.16, (198, 196, 190))
        for x in np.arange(0.4, 2 * _HALF_WIDTH, 2.4):
            _rectangle(image, x, kerb - 1.5, x + 1.3, kerb - 1.38, (214, 212, 204))
        strength = 0.03
    elif camera.theme == "plaza":
        _tiles(rng, image, 1.2, 1.2, _vary_colour(rng, (196, 180, 158), 5.0), 6.0, (160, 146, 128))
        for x in np.arange(1.0, 2 * _HALF_WIDTH, 4.8):
            _rectangle(image, x, 0.0, x + 0.3, _DEPTH, (148, 122, 104))
        strength = 0.025
    elif camera.theme == "station":
        _tiles(rng, image, 0.8, 0.8, _vary_colour(rng, (186, 190, 194), 4.0), 3.5, (164, 168, 172))
        for z in (camera.wall - 1.3, camera.near + 0.5):
            _rectangle(image, 0.0, z, 2 * _HALF_WIDTH, z + 0.28, (206, 184, 92))
        strength = 0.02
    else:
        image[:] = _vary_colour(rng, (106, 132, 74), 5.0)
        blades = rng.integers(0, [shape[1], shape[0]], (9000, 2))
        for x, y in blades.tolist():
            cv2.line(image, (x, y), (x + 2, y + 6), _vary_colour(rng, (98, 128, 66), 14.0), 2)
        bend = 0.35 * np.sin(np.linspace(0, 7, 60))
        x = np.linspace(0, 2 * _HALF_WIDTH, 60)
        edge = np.concatenate([np.stack([x, middle - 2.3 + bend], 1), np.stack([x, middle + 1.7 + bend], 1)[::-1]])
        cv2.fillPoly(
            image, [np.rint(edge * _PIXELS_PER_METRE).astype(np.int32)], _vary_colour(rng, (190, 172, 138), 5.0)
        )
        strength = 0.05
    return np.asarray(np.clip(image * _uneven_brightness(rng, shape, strength), 0, 255).astype(np.uint8))


def _paint_wall(camera: Camera, rng: np.random.Generator) -> UInt8[np.ndarray, "a b 3"]:
    """Columns: x from -_HALF_WIDTH, rows: from the top of the wall down to its foot."""
    shape = (round(_WALL_HEIGHT * _PIXELS_PER_METRE), round(2 * _HALF_WIDTH * _PIXELS_PER_METRE))
    image = np.zeros((*shape, 3), np.uint8)
    foot = _WALL_HEIGHT
    if camera.theme == "street":
        _tiles(rng, image, 0.36, 0.12, _vary_colour(rng, (156, 92, 72), 8.0), 9.0, (176, 160, 146))
        _rectangle(image, 0.0, foot - 0.45, 2 * _HALF_WIDTH, foot, (120, 112, 106))
    elif camera.theme == "plaza":
        _tiles(rng, image, 1.6, 0.8, _vary_colour(rng, (214, 200, 174), 5.0), 4.0, (180, 166, 142))
        _rectangle(image, 0.0, foot - 0.3, 2 * _HALF_WIDTH, foot, (150, 136, 118))
    elif camera.theme == "station":
        _tiles(rng, image, 0.4, 0.4, _vary_colour(rng, (176, 200, 204), 5.0), 4.0, (206, 214, 214))
        _rectangle(image, 0.0, foot - 0.5, 2 * _HALF_WIDTH, foot, (74, 98, 112))
        _rectangle(image, 0.0, foot - 2.95, 2 * _HALF_WIDTH, foot - 2.72, (44, 84, 140))
    else:
        image[:] = (52, 78, 44)
        for x, y in rng.integers(0, [shape[1], shape[0]], (15000, 2)).tolist():
            cv2.circle(image, (x, y), int(rng.integers(3, 8)), _vary_colour(rng, (62, 96, 50), 15.0), -1)
    taken = list(camera.doors)
    for door in camera.doors:
        _paint_door(image, camera, rng, door + _HALF_WIDTH)
    x = -_HALF_WIDTH + 0.8
    while x < _HALF_WIDTH - 1.8:
        x += float(rng.uniform(0.4, 1.1))
        w = float(rng.uniform(1.1, 2.0))
        if all(x + w < door - 1.0 or x > door + 1.0 for door in taken):
            _paint_wall_section(image, camera, rng, x + _HALF_WIDTH, w)
            x += w
        else:
            x += 0.3
    strength = 0.06 if camera.theme == "park" else 0.03
    return np.asarray(np.clip(image * _uneven_brightness(rng, shape, strength), 0, 255).astype(np.uint8))


def _paint_door(image: np.ndarray, camera: Camera, rng: np.random.Generator, x: float) -> None:
    foot, half, top = _WALL_HEIGHT, _DOOR_HALF, _WALL_HEIGHT - _DOOR_HEIGHT
    frame: RGB = {
        "street": (228, 222, 210),
        "plaza": (110, 84, 66),
        "station": (210, 214, 216),
        "park": (146, 136, 120),
    }[camera.theme]
    _rectangle(image, x - half - 0.14, top - 0.14, x + half + 0.14, foot, frame)
    deep = (58, 58, 62) if camera.theme != "park" else (96, 112, 80)
    _rectangle(image, x - half, top, x + half, foot, deep)
    # A passage: its floor and side walls catch some light.
    inner = np.array(
        [(x - half, foot), (x + half, foot), (x + 0.62 * half, foot - 0.55), (x - 0.62 * half, foot - 0.55)]
    )
    cv2.fillConvexPoly(image, np.rint(inner * _PIXELS_PER_METRE).astype(np.int32), tuple(int(1.5 * c) for c in deep))
    side = np.array([(x - half, foot), (x - 0.62 * half, foot - 0.55), (x - 0.62 * half, top + 0.2), (x - half, top)])
    cv2.fillConvexPoly(image, np.rint(side * _PIXELS_PER_METRE).astype(np.int32), tuple(int(1.22 * c) for c in deep))
    if camera.theme == "street":
        awning = _random_hue(rng)
        for k in range(8):
            x0 = x - half - 0.3 + k * (2 * half + 0.6) / 8
            colour = awning if k % 2 else (236, 230, 220)
            _rectangle(image, x0, top - 0.5, x0 + (2 * half + 0.6) / 8, top - 0.08, colour)


def _paint_wall_section(image: np.ndarray, camera: Camera, rng: np.random.Generator, x: float, w: float) -> None:
    """A window, a shop front, a poster, or a bush."""
    foot = _WALL_HEIGHT
    if camera.theme == "park":
        for _ in range(26):
            at = (
                round((x + rng.uniform(0, w)) * _PIXELS_PER_METRE),
                round((foot - abs(rng.normal(0, 0.5))) * _PIXELS_PER_METRE),
            )
            cv2.circle(image, at, int(rng.integers(8, 20)), _vary_colour(rng, (84, 118, 60), 14.0), -1)
        return
    if camera.theme == "station":
        paper = _vary_colour(rng, (226, 222, 214), 12.0)
        _rectangle(image, x - 0.05, foot - 2.35, x + min(w, 1.3) + 0.05, foot - 0.75, (70, 74, 80))
        _rectangle(image, x, foot - 2.3, x + min(w, 1.3), foot - 0.8, paper)
        for _ in range(4):
            x0, y0 = x + rng.uniform(0.05, 0.6), foot - rng.uniform(1.2, 2.2)
            colour = _random_hue(rng)
            _rectangle(image, x0, y0, min(x0 + rng.uniform(0.2, 0.7), x + min(w, 1.3) - 0.05), y0 + 0.3, colour)
        return
    low, high = (0.95, 2.3) if camera.theme == "street" else (0.35, 2.6)
    frame = (232, 228, 220) if camera.theme == "street" else (92, 76, 64)
    glass = _vary_colour(rng, (92, 108, 118), 8.0)
    _rectangle(image, x - 0.08, foot - high - 0.08, x + w + 0.08, foot - low + 0.08, frame)
    _rectangle(image, x, foot - high, x + w, foot - low, glass)
    for k in range(3):  # a reflection
        shift = 0.2 + 0.35 * k
        band = np.array([(x + shift, foot - high), (x + shift + 0.16, foot - high), (x + shift - 0.2, foot - low)])
        if shift + 0.2 < w:
            cv2.fillConvexPoly(image, np.rint(band * _PIXELS_PER_METRE).astype(np.int32), tuple(c + 18 for c in glass))
    if camera.theme == "plaza":
        for k in range(int(w / 0.35)):
            colour = _random_hue(rng)
            _rectangle(image, x + 0.1 + k * 0.35, foot - 1.1, x + 0.32 + k * 0.35, foot - 0.5, colour)
        _rectangle(
            image, x - 0.08, foot - high - 0.5, x + w + 0.08, foot - high - 0.12, _vary_colour(rng, (84, 96, 108), 25.0)
        )
    else:
        _rectangle(image, x + w / 2 - 0.03, foot - high, x + w / 2 + 0.03, foot - low, frame)
        _rectangle(image, x - 0.14, foot - low + 0.02, x + w + 0.14, foot - low + 0.14, (206, 200, 190))


def _draw_props(camera: Camera, rng: np.random.Generator) -> list[Prop]:
    """Objects on the ground, from far to near; people walk behind the last `_STANDING`."""
    free = [x for x in np.linspace(-0.85, 0.85, 9) * camera.half_view(camera.wall) if _is_clear_of_doors(camera, x)]
    props = []
    for x in rng.permutation(free)[:3]:
        z = float(camera.wall_at(x)) - 0.45
        kind = ("planter", "bench", "bin")[int(rng.integers(3))]
        props.append(_render_prop(camera, kind, float(x), z, rng))
    sides = (-1, 1) if rng.random() < 0.5 else (1, -1)
    for side, share, kind in zip(
        sides, (0.55, 0.2), ("tree" if camera.theme in ("plaza", "park") else "lamp", "bollard"), strict=True
    ):
        z = camera.near + share * (camera.wall - camera.near)
        props.append(_render_prop(camera, kind, float(side * rng.uniform(0.45, 0.8)) * camera.half_view(z), z, rng))
    return props


def _is_clear_of_doors(camera: Camera, x: float) -> bool:
    return all(abs(x - door) > 1.3 for door in camera.doors)


def _render_prop(camera: Camera, kind: str, x: float, z: float, rng: np.random.Generator) -> Prop:
    """Renders a prop at four times its size, shrinks it and places it on the ground."""
    scale = camera.focal / z
    pixel = 4 * scale
    width, height = {"planter": (1.1, 1.3), "bench": (1.7, 1.0), "bin": (0.6, 1.0), "tree": (2.6, 4.6)}.get(
        kind, (0.7, 4.4 if kind == "lamp" else 1.05)
    )
    canvas = np.zeros((round(height * pixel), round(width * pixel), 4), np.uint8)

    def part(x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        a = (round((width / 2 + x0) * pixel), round((height - y0) * pixel))
        b = (round((width / 2 + x1) * pixel), round((height - y1) * pixel))
        cv2.rectangle(canvas, a, b, (*colour, 255), -1)

    def round_part(x0: float, y0: float, radius: float, colour: RGB) -> None:
        at = (round((width / 2 + x0) * pixel), round((height - y0) * pixel))
        cv2.circle(canvas, at, round(radius * pixel), (*colour, 255), -1, cv2.LINE_AA)

    centre = (round(width / 2 * pixel), round((height - 0.05) * pixel))
    spread = min(0.47 * width, 0.62 if kind in ("planter", "bench") else 0.3)
    cv2.ellipse(canvas, centre, (round(spread * pixel), round(0.05 * pixel)), 0, 0, 360, (0, 0, 0, 90), -1, cv2.LINE_AA)
    if kind == "planter":
        for _ in range(60):
            leaf = _vary_colour(rng, (74, 116, 56), 16.0)
            round_part(float(rng.normal(0, 0.18)), float(0.75 + abs(rng.normal(0, 0.17))), 0.09, leaf)
        part(-0.42, 0.05, 0.42, 0.55, (132, 96, 74))
        part(-0.46, 0.5, 0.46, 0.6, (150, 112, 88))
        part(0.22, 0.05, 0.42, 0.5, (112, 80, 62))
    elif kind == "bench":
        for x0 in (-0.68, 0.6):
            part(x0, 0.03, x0 + 0.08, 0.85, (58, 58, 60))
        for y0 in (0.4, 0.58, 0.74):
            part(-0.78, y0, 0.78, y0 + 0.1, _vary_colour(rng, (140, 98, 60), 6.0))
        part(-0.8, 0.34, 0.8, 0.42, (120, 82, 50))
    elif kind == "bin":
        part(-0.2, 0.04, 0.2, 0.8, (70, 92, 78))
        part(0.06, 0.04, 0.2, 0.8, (58, 78, 66))
        part(-0.23, 0.76, 0.23, 0.86, (46, 60, 52))
    elif kind == "tree":
        part(-0.09, 0.04, 0.09, 3.0, (104, 80, 60))
        part(0.02, 0.04, 0.09, 3.0, (86, 64, 48))
        for _ in range(170):
            leaf = _vary_colour(rng, (86, 126, 62), 18.0)
            round_part(float(rng.normal(0, 0.5)), float(3.6 + rng.normal(0, 0.32)), 0.16, leaf)
    elif kind == "lamp":
        part(-0.045, 0.04, 0.045, 4.3, (62, 66, 70))
        part(-0.02, 0.04, 0.01, 4.3, (92, 96, 100))
        part(-0.1, 0.03, 0.1, 0.35, (54, 58, 62))
    else:
        part(-0.09, 0.04, 0.09, 0.9, (96, 100, 106))
        part(0.02, 0.04, 0.09, 0.9, (78, 82, 88))
        part(-0.1, 0.7, 0.1, 0.8, (206, 196, 170))
        round_part(0.0, 0.9, 0.09, (106, 110, 116))
    shrunk = cv2.resize(
        canvas, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA
    )
    left = round(float(camera.column(np.array(x), np.array(z))) - shrunk.shape[1] / 2)
    top = round(float(camera.row(np.array(z)))) - shrunk.shape[0]
    return Prop(np.asarray(shrunk), left, top, z)
