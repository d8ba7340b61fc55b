"""Renders a person: a walking 3D skeleton seen from any side, covered part by part.

Lengths are in body heights. A body has its own axes: x to its left, y up, z forward. The picture has right, up, and
depth towards the viewer. Trunk, skirt and head are elliptic tubes with a texture around them, so that stripes turn
with the body and what is on the back is not seen from the front. Limbs are tapered capsules.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from .people import Person, rgb

_SUPERSAMPLING = 2  # the figure is rendered this many times larger and shrunk; each edge is antialiased too
_SHIFT = 4  # fractional bits of OpenCV's coordinates
_AROUND, _DOWN = 128, 64  # size of a texture
# The outline of a capsule that points to the right: half a circle around its end, half a circle around its start.
_ARC = np.concatenate([np.linspace(-np.pi / 2, np.pi / 2, 7), np.linspace(np.pi / 2, 3 * np.pi / 2, 7)])
_CAPSULE = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)
_AT_END = np.repeat([[1.0], [0.0]], 7, axis=0)

RGB = tuple[int, int, int]
Point = tuple[float, float, float]  # right, up, depth
Bone = tuple[Point, Point, float, float]  # from, to, half of the width there and there
_Place = Callable[[float, float, float], Point]  # from the body's axes to the picture's


@dataclass(frozen=True)
class Pose:
    """Pose of a body relative to the camera.

    Attributes:
        facing: Radians; 0 = towards the camera, pi/2 = to the right of the picture, pi = away.
        phase: Of the gait, in radians; one cycle is two steps.
        stride: 0 = stands, 1 = walks.
        pitch: Angle of the camera below the horizontal, in radians.
        light: Direction of the light: -1 = left, 1 = right.
    """

    facing: float
    phase: float = 0.0
    stride: float = 1.0
    pitch: float = 0.0
    light: float = -0.5


@dataclass(frozen=True)
class Sprite:
    """A rendered person with coverage, and its place in the frame.

    Attributes:
        pixels: RGB premultiplied by coverage, and coverage (0 to 255); with the shadow at the feet.
        body: Coverage of the body alone.
        left: First column in the frame; may lie outside.
        top: First row in the frame.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    body: UInt8[np.ndarray, "h w"]
    left: int
    top: int


def render_figure(person: Person, pose: Pose, *, x: float, y: float, height: float, shadow: float = 0.4) -> Sprite:
    """Renders a person standing at a point of the frame.

    Args:
        person: The person.
        pose: The pose.
        x: Column of the point between the feet, in pixels.
        y: Row of the ground there.
        height: Of the upright body, in pixels.
        shadow: Darkness of the shadow at the feet, in [0, 1].
    """
    rows, columns = math.ceil(1.14 * height) + 4, math.ceil(0.92 * height) + 4
    left, top = math.floor(x) - columns // 2, math.floor(y) - rows + math.ceil(0.08 * height) + 2
    canvas = _Canvas(
        rows, columns, (x - left) * _SUPERSAMPLING, (y - top) * _SUPERSAMPLING, height * _SUPERSAMPLING, pose
    )
    _render_body(canvas, person, pose)
    body = cv2.resize(canvas.pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    alpha = body[..., 3].copy()
    if shadow > 0:
        _add_shadow(body, shadow, x - left, y - top, height, pose)
    x0, y0, w, h = cv2.boundingRect(body[..., 3])
    cut = np.s_[y0 : y0 + h, x0 : x0 + w]
    return Sprite(body[cut], alpha[cut], left + x0, top + y0)


class _Canvas:
    """Premultiplied RGBA. Painting an opaque colour with an antialiased edge on it is exactly the `over` operation."""

    def __init__(self, rows: int, columns: int, x: float, y: float, unit: float, pose: Pose) -> None:
        self.pixels = np.zeros((rows * _SUPERSAMPLING, columns * _SUPERSAMPLING, 4), np.uint8)
        self.x, self.y, self.unit = x, y, unit
        self.sine, self.cosine = math.sin(pose.facing), math.cos(pose.facing)
        self.tilt, self.upright = math.sin(pose.pitch), math.cos(pose.pitch)
        self.facing, self.light = pose.facing, pose.light

    def turn(self, x: float, y: float, z: float) -> Point:
        """From the body's axes to the picture's."""
        depth = -x * self.sine + z * self.cosine
        return x * self.cosine + z * self.sine, y * self.upright - depth * self.tilt, depth

    def polygon(self, points: np.ndarray, colour: RGB) -> None:
        """Fills a convex polygon, points in pixels."""
        fixed = np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(self.pixels, fixed, (*colour, 255), cv2.LINE_AA, _SHIFT)

    def limb(self, colour: RGB, *bones: Bone) -> None:
        """Tapered capsules in one cloth or skin, lit from one side; no seam shows where they meet."""
        lit = []
        for start, end, r0, r1 in bones:
            x, y = self.x + start[0] * self.unit, self.y - start[1] * self.unit
            dx, dy = (end[0] - start[0]) * self.unit, (start[1] - end[1]) * self.unit
            length = math.hypot(dx, dy) or 1.0
            c, s = dx / length, dy / length
            a, b = r0 * self.unit, r1 * self.unit
            axis = (x, y) + _AT_END * (dx, dy)
            rim = (a + _AT_END * (b - a)) * (_CAPSULE @ ((c, s), (-s, c)))
            self.polygon(axis + rim, shade(colour, 0.74))
            lit.append(axis + 0.76 * rim + (self.light * 0.1 * (a + b), -0.04 * (a + b)))
        for points in lit:
            self.polygon(points, colour)

    def box(self, at: Point, half_width: float, half_height: float, colour: RGB) -> None:
        """A box with rounded corners."""
        corner = 0.35 * min(half_width, half_height)
        for grow, tone in ((0.0, 0.7), (-0.12 * min(half_width, half_height), 1.0)):
            w, h = half_width + grow, half_height + grow
            quarter = np.linspace(0, np.pi / 2, 4)
            angle = np.concatenate([quarter + k * np.pi / 2 for k in range(4)])
            cx = np.repeat([w - corner, corner - w, corner - w, w - corner], 4) + corner * np.cos(angle)
            cy = np.repeat([h - corner, h - corner, corner - h, corner - h], 4) + corner * np.sin(angle)
            points = np.stack(
                [self.x + (at[0] + cx) * self.unit, self.y - (at[1] + cy) * self.unit],
                axis=1,
            )
            self.polygon(points, shade(colour, tone))

    def disc(self, at: Point, half_width: float, half_height: float, colour: RGB) -> None:
        """An upright ellipse."""
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.polygon(
            np.stack(
                [
                    self.x + (at[0] + half_width * np.cos(angle)) * self.unit,
                    self.y - (at[1] + half_height * np.sin(angle)) * self.unit,
                ],
                axis=1,
            ),
            colour,
        )

    def tube(
        self,
        top: Point,
        bottom: Point,
        knots: Float32[np.ndarray, " k"],
        widths: Float32[np.ndarray, " k"],
        flatness: float,
        texture: UInt8[np.ndarray, "v u 3"],
    ) -> None:
        """A textured tube.

        Args:
            top: Where its axis begins.
            bottom: Where it ends.
            knots: Fractions of the way down, rising from 0 to 1.
            widths: Half of the width at each knot, seen from the front.
            flatness: Depth / width of the elliptic section.
            texture: Columns go around (the middle is the front, then the body's left), rows from top to bottom.
        """
        # A point of the ellipse at angle u is seen at reach * sin(u + turn).
        reach = math.hypot(self.cosine, flatness * self.sine)
        turn = math.atan2(flatness * self.sine, self.cosine)
        y0, y1 = self.y - top[1] * self.unit, self.y - bottom[1] * self.unit
        row0, row1 = max(math.floor(y0), 0), min(math.ceil(y1), self.pixels.shape[0])
        widest = float(widths.max()) * reach * self.unit
        x0, x1 = self.x + top[0] * self.unit, self.x + bottom[0] * self.unit
        column0 = max(math.floor(min(x0, x1) - widest - 1), 0)
        column1 = min(math.ceil(max(x0, x1) + widest + 1), self.pixels.shape[1])
        if row1 <= row0 or column1 <= column0:
            return
        rows = np.arange(row0, row1, dtype=np.float32) + 0.5
        down = np.clip((rows - y0) / (y1 - y0), 0, 1)
        half = np.maximum(np.interp(down, knots, widths) * (reach * self.unit), 0.25).astype(np.float32)[:, None]
        axis = (x0 + (x1 - x0) * down).astype(np.float32)[:, None]
        across = (np.arange(column0, column1, dtype=np.float32) + 0.5)[None] - axis
        sine = np.clip(across / half, -1, 1)
        around = (np.arcsin(sine) - np.float32(turn)) * np.float32(_AROUND / (2 * np.pi)) + (_AROUND / 2 - 0.5)
        height = np.repeat((down * (len(texture) - 1)).astype(np.float32)[:, None], column1 - column0, axis=1)
        seen = cv2.remap(texture, around, height, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        sun = 0.7 * self.light  # cos(angle - sun), without the angle
        light = 0.66 + 0.34 * (np.sqrt(1 - sine * sine) * math.cos(sun) + sine * math.sin(sun))
        cover = np.clip(half - np.abs(across) + 0.5, 0, 1)
        cover *= np.clip(np.minimum(rows + 0.5 - y0, y1 - rows + 0.5), 0, 1).astype(np.float32)[:, None]
        region = self.pixels[row0:row1, column0:column1]
        under = region.astype(np.float32)
        under[..., :3] += (seen * light[..., None] - under[..., :3]) * cover[..., None]
        under[..., 3] += (255 - under[..., 3]) * cover
        np.copyto(region, np.rint(under), casting="unsafe")


def shade(colour: RGB, factor: float) -> RGB:
    """A colour made darker or lighter."""
    r, g, b = (min(255, int(channel * factor)) for channel in colour)
    return r, g, b


_TRUNK_KNOTS = np.array([0, 0.03, 0.1, 0.35, 0.62, 0.85, 1], np.float32)
_TRUNK = np.array([0.045, 0.092, 0.116, 0.108, 0.09, 0.096, 0.1], np.float32)
_HEAD_KNOTS = np.linspace(0, 1, 15, dtype=np.float32)
_HEAD = (0.059 * np.sqrt(1 - (2 * _HEAD_KNOTS - 1) ** 2)).astype(np.float32)
_SKIRT_KNOTS = np.array([0, 0.2, 1], np.float32)
_SKIRT = np.array([0.082, 0.1, 0.14], np.float32)
_MANE_KNOTS = np.array([0, 0.08, 0.3, 0.85, 1], np.float32)
_MANE = np.array([0.03, 0.06, 0.072, 0.07, 0.045], np.float32)

_SHOULDER, _HIP, _THIGH, _SHIN, _ANKLE = 0.8, 0.505, 0.238, 0.232, 0.035


def _render_body(c: _Canvas, person: Person, pose: Pose) -> None:
    girth = person.girth
    upper, lower, skin, shoes = rgb(person.upper), rgb(person.lower_colour), rgb(person.skin), rgb(person.shoes)
    hair, bag = rgb(person.hair_colour), rgb(person.bag_colour)
    back = c.cosine < 0

    legs = [_leg(side, pose, girth) for side in (1, -1)]
    lift = -min(min(ankle[1] - _ANKLE, toe[1] - 0.014) for _, _, ankle, toe in legs)

    def at(x: float, y: float, z: float) -> Point:
        return c.turn(x, y + lift, z)

    turned = [[at(*joint) for joint in leg] for leg in legs]
    for hip, knee, ankle, toe in sorted(turned, key=lambda leg: leg[0][2] + 0.3 * leg[1][2]):
        _paint_leg(c, person, hip, knee, ankle, toe, lower, skin, shoes)

    arms = []
    for side in (1, -1):
        shoulder, elbow, hand = _arm(side, pose, girth)
        arms.append((at(*shoulder), at(*elbow), at(*hand), side))
    behind = [arm for arm in arms if (arm[1][2] + arm[2][2]) / 2 < -0.045]
    before = [arm for arm in arms if arm not in behind]

    pack = person.bag == "backpack"
    pouch = at(-0.115 * girth, 0.5, 0.0) if person.bag == "shoulder bag" else None
    if pack and not back:
        _backpack(c, at, girth, bag)
    if pouch and pouch[2] < -0.03:
        c.box(pouch, 0.03 + 0.05 * abs(c.sine), 0.055, bag)
    for arm in behind:
        _paint_arm(c, person, *arm, upper, skin, bag)
    if person.hair == "long" and not back:
        _mane(c, at, person)

    if person.lower == "skirt":
        cloth = np.full((4, _AROUND, 3), lower, np.uint8)
        c.tube(at(0.0, 0.55, 0.0), at(0.0, 0.29, 0.0), _SKIRT_KNOTS, _SKIRT * girth, 0.75, cloth)
    else:
        c.limb(lower, (at(0.035 * girth, 0.53, 0.0), at(-0.035 * girth, 0.53, 0.0), 0.062 * girth, 0.062 * girth))
    neck_top, neck = at(0.0, 0.89, 0.012), at(0.0, 0.82, 0.0)
    c.limb(shade(skin, 0.86), (neck_top, neck, 0.03, 0.034))
    c.tube(at(0.0, 0.845, 0.005), at(0.0, 0.495, 0.0), _TRUNK_KNOTS, _TRUNK * girth, 0.66, _trunk_texture(person))
    if pouch and pouch[2] >= -0.03:
        c.box(pouch, 0.03 + 0.05 * abs(c.sine), 0.055, bag)
    if pack and back:
        _backpack(c, at, girth, bag)

    crown, chin = at(0.0, 0.998, 0.015), at(0.0, 0.858, 0.015)
    if person.hair == "ponytail" and not back:
        _ponytail(c, at, hair)
    c.tube(crown, chin, _HEAD_KNOTS, _HEAD, 1.12, _head_texture(person))
    if person.hair == "long" and back:
        _mane(c, at, person)
    if person.hair == "ponytail" and back:
        _ponytail(c, at, hair)
    if person.hat != "none":
        _brim(c, at, person)
    for arm in before:
        _paint_arm(c, person, *arm, upper, skin, bag)


def _leg(side: int, pose: Pose, girth: float) -> tuple[Point, Point, Point, Point]:
    """Hip, knee, ankle, toe in the body's axes."""
    phase = pose.phase + (0 if side > 0 else math.pi)
    swing = 0.46 * pose.stride * math.sin(phase)
    bend = 0.05 + pose.stride * (0.08 + 0.8 * max(0.0, math.cos(phase + 0.35)) ** 2)
    x = side * 0.047 * girth
    hip = (x, _HIP, 0.0)
    knee = (x, hip[1] - _THIGH * math.cos(swing), _THIGH * math.sin(swing))
    shin = swing - bend
    ankle = (x, knee[1] - _SHIN * math.cos(shin), knee[2] + _SHIN * math.sin(shin))
    foot = -0.55 * bend + 0.35 * pose.stride * max(0.0, math.sin(phase)) - 0.15
    toe = (x + side * 0.012, ankle[1] + 0.092 * math.sin(foot) - 0.008, ankle[2] + 0.092 * math.cos(foot))
    return hip, knee, ankle, toe


def _arm(side: int, pose: Pose, girth: float) -> tuple[Point, Point, Point]:
    """Shoulder, elbow, hand in the body's axes."""
    phase = pose.phase + (math.pi if side > 0 else 0)
    swing = 0.5 * pose.stride * math.sin(phase)
    bend = 0.18 + 0.3 * pose.stride * max(0.0, math.sin(phase))
    x = side * 0.103 * girth
    shoulder = (x, _SHOULDER, 0.0)
    elbow = (x + side * 0.02, _SHOULDER - 0.165 * math.cos(swing), 0.165 * math.sin(swing))
    lower = swing + bend
    hand = (x + side * 0.022, elbow[1] - 0.155 * math.cos(lower), elbow[2] + 0.155 * math.sin(lower))
    return shoulder, elbow, hand


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


def _paint_leg(
    c: _Canvas, person: Person, hip: Point, knee: Point, ankle: Point, toe: Point, lower: RGB, skin: RGB, shoes: RGB
) -> None:
    thick = 0.5 + 0.5 * person.girth
    tone = 0.9 if hip[2] + 0.3 * knee[2] < 0 else 1.0  # the far leg lies in the shade of the near one
    lower, skin = shade(lower, tone), shade(skin, tone)
    heel = (ankle[0] - 0.25 * (toe[0] - ankle[0]), ankle[1] - 0.014, ankle[2])
    c.limb(shade(shoes, tone), (heel, toe, 0.026, 0.018))
    if person.lower == "trousers":
        shin = (knee, _between(knee, ankle, 0.97), 0.046 * thick, 0.034 * thick)
        c.limb(lower, shin, (hip, knee, 0.066 * thick, 0.046 * thick))
        return
    c.limb(skin, (knee, ankle, 0.035 * thick, 0.022), (hip, knee, 0.052 * thick, 0.035 * thick))
    if person.lower == "shorts":
        c.limb(lower, (hip, _between(hip, knee, 0.82), 0.068 * thick, 0.056 * thick))


def _paint_arm(
    c: _Canvas, person: Person, shoulder: Point, elbow: Point, hand: Point, side: int, upper: RGB, skin: RGB, bag: RGB
) -> None:
    thick = 0.5 + 0.5 * person.girth
    if person.bag == "handbag" and side > 0:
        c.box((hand[0], hand[1] - 0.075, hand[2]), 0.03 + 0.045 * abs(c.sine), 0.05, bag)
        c.limb(shade(bag, 0.8), (hand, (hand[0], hand[1] - 0.04, hand[2]), 0.007, 0.007))
    fingers = (_between(elbow, hand, 0.97), _between(elbow, hand, 1.12), 0.021, 0.016)
    c.limb(skin, (shoulder, elbow, 0.034 * thick, 0.027 * thick), (elbow, hand, 0.027 * thick, 0.02), fingers)
    if person.sleeve == "long":
        wrist = _between(elbow, hand, 0.92)
        c.limb(upper, (shoulder, elbow, 0.041 * thick, 0.034 * thick), (elbow, wrist, 0.034 * thick, 0.027 * thick))
    elif person.sleeve == "short":
        c.limb(upper, (shoulder, _between(shoulder, elbow, 0.66), 0.042 * thick, 0.04 * thick))


def _backpack(c: _Canvas, at: _Place, girth: float, colour: RGB) -> None:
    half = 0.088 * abs(c.cosine) + 0.05 * abs(c.sine)
    c.box(at(0.0, 0.705, -0.075 * girth - 0.04), half, 0.115, colour)
    if c.cosine < 0.3:
        c.box(at(0.0, 0.66, -0.085 * girth - 0.055), 0.75 * half, 0.05, shade(colour, 0.85))


def _mane(c: _Canvas, at: _Place, person: Person) -> None:
    cloth = np.full((4, _AROUND, 3), rgb(person.hair_colour), np.uint8)
    c.tube(at(0.0, 0.985, -0.02), at(0.0, 0.77, -0.05), _MANE_KNOTS, _MANE, 0.75, cloth)


def _ponytail(c: _Canvas, at: _Place, colour: RGB) -> None:
    knot = at(0.0, 0.925, -0.085)
    c.limb(colour, (at(0.0, 0.945, -0.055), knot, 0.014, 0.02), (knot, at(0.0, 0.82, -0.085), 0.022, 0.01))


def _brim(c: _Canvas, at: _Place, person: Person) -> None:
    colour = rgb(person.hat_colour)
    if person.hat == "cap" and c.cosine > -0.75:
        visor = (at(0.0, 0.95, 0.06), at(0.0, 0.943, 0.105), 0.02 + 0.025 * abs(c.cosine), 0.012)
        c.limb(shade(colour, 0.85), visor)
    elif person.hat == "sun hat":
        c.disc(at(0.0, 0.957, 0.01), 0.108, 0.022 + 0.1 * c.tilt, shade(colour, 0.8))
        c.disc(at(0.0, 0.985, 0.01), 0.057, 0.034, colour)
    elif person.hat == "beanie":
        c.disc(at(0.0, 1.005, 0.0), 0.014, 0.014, shade(colour, 1.15))


def _add_shadow(
    body: UInt8[np.ndarray, "h w 4"], strength: float, x: float, y: float, height: float, pose: Pose
) -> None:
    """Composites a soft shadow under a premultiplied body."""
    dark = np.zeros(body.shape[:2], np.uint8)
    flat = max(math.sin(pose.pitch), 0.12)
    centre = (int((x - 0.02 * height * pose.light - 0.5) * 16), int((y - 0.5) * 16))
    for size, level in ((0.24, 0.2), (0.2, 0.45), (0.16, 0.75), (0.11, 1.0)):
        axes = (int(size * height * 16), int(size * height * flat * 16))
        cv2.ellipse(dark, centre, axes, 0, 0, 360, 255 * strength * level, -1, cv2.LINE_AA, 4)
    alpha = body[..., 3]
    alpha += (dark.astype(np.uint16) * (255 - alpha) // 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _trunk_texture(person: Person) -> UInt8[np.ndarray, "v u 3"]:
    base, accent = rgb(person.upper), rgb(person.accent)
    cloth = np.full((_DOWN, _AROUND, 3), base, np.uint8)
    v, u = np.mgrid[:_DOWN, :_AROUND]
    across = (u - _AROUND / 2) * 2 * np.pi / _AROUND  # 0 = front, positive to the body's left
    if person.pattern == "horizontal stripes":
        cloth[(v + 3) % 13 < 6] = accent
    elif person.pattern == "vertical stripes":
        cloth[(u + 2) % 13 < 5] = accent
    elif person.pattern == "check":
        lines = (u % 16 < 5).astype(int) + (v % 12 < 4)
        cloth[:] = np.rint(np.array(base) + (np.array(accent, float) - base) * (lines[..., None] / 2)).astype(np.uint8)
    elif person.pattern == "dots":
        shifted = u + 8 * (v // 10 % 2)
        cloth[np.hypot(shifted % 16 - 7.5, v % 10 - 4.5) < 3.4] = accent
    elif person.pattern == "two-tone":
        cloth[v > 0.46 * _DOWN] = accent
    elif person.pattern == "open jacket":
        cloth[np.abs(across) < 0.34 + 0.16 * (v / _DOWN)] = accent
    if person.logo == "chest":
        cloth[np.hypot((across - 0.55) * 17, v - 19) < 6.5] = rgb(person.logo_colour)
    elif person.logo == "back":
        away = np.abs(np.abs(across) - np.pi)
        cloth[(away < 0.55) & (np.abs(v - 20) < 8)] = rgb(person.logo_colour)
    if person.bag == "backpack":
        cloth[(np.abs(np.abs(across) - 0.72) < 0.13) & (v < 34)] = shade(rgb(person.bag_colour), 0.75)
    elif person.bag == "shoulder bag":
        strap = np.abs(v - 31 + 27 * np.sin(across))  # from the left shoulder to the right hip
        cloth[strap < 4] = shade(rgb(person.bag_colour), 0.75)
    neckline = (v < 7) & (np.abs(across) < 0.55) if person.sleeve != "long" else (v < 4) & (np.abs(across) < 0.5)
    cloth[neckline] = shade(rgb(person.skin), 0.95)
    fold = 1 - 0.07 * (np.sin(across * 5 + v * 0.16) > 0.75)  # a hint of creased cloth
    return np.asarray(cloth * fold[..., None], np.uint8)


@lru_cache(maxsize=256)
def _head_texture(person: Person) -> UInt8[np.ndarray, "v u 3"]:
    skin = rgb(person.skin)
    cloth = np.full((_DOWN, _AROUND, 3), skin, np.uint8)
    v, u = np.mgrid[:_DOWN, :_AROUND]
    down, across = v / _DOWN, np.abs((u - _AROUND / 2) * 2 * np.pi / _AROUND)
    if person.hair != "bald":
        nape = 0.97 if person.hair == "long" else 0.74
        edge = np.interp(across, [0.0, 0.75, 1.15, 1.6, np.pi], [0.27, 0.3, 0.45, nape - 0.12, nape])
        cloth[down < edge] = rgb(person.hair_colour)
    eyes = np.hypot((across - 0.42) * 13, (down - 0.5) * 44) < 2.3
    cloth[eyes] = (38, 28, 26)
    brows = (np.abs(across - 0.42) < 0.22) & (np.abs(down - 0.42) < 0.018)
    cloth[brows] = shade(rgb(person.hair_colour), 0.8)
    cloth[(across < 0.1) & (np.abs(down - 0.58) < 0.07)] = shade(skin, 0.88)
    cloth[(across < 0.26) & (np.abs(down - 0.77) < 0.022)] = shade(skin, 0.62)
    cloth[(down > 0.93)] = shade(skin, 0.85)
    if person.hat in ("cap", "beanie"):
        cloth[down < (0.36 if person.hat == "cap" else 0.4)] = rgb(person.hat_colour)
        if person.hat == "beanie":
            cloth[np.abs(down - 0.36) < 0.05] = shade(rgb(person.hat_colour), 0.78)
    return cloth
