"""Random people, described by visible attributes; some differ from another person in exactly one."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from reappear.core import generator

Colour = str  # "#rrggbb"
T = TypeVar("T")

Sleeve = Literal["none", "short", "long"]
Pattern = Literal["plain", "horizontal stripes", "vertical stripes", "check", "dots", "two-tone", "open jacket"]
Lower = Literal["trousers", "shorts", "skirt"]
Hair = Literal["bald", "short", "long", "ponytail"]
Hat = Literal["none", "cap", "beanie", "sun hat"]
Bag = Literal["none", "backpack", "shoulder bag", "handbag"]
Logo = Literal["none", "chest", "back"]

# fmt: off
_CLOTH = (
    "#1c1c20", "#3d4046", "#8b8f94", "#e9e7e2", "#1d2c54", "#2b5cae", "#86b3dd", "#b3232c", "#6b1f30",
    "#2f7a45", "#6b7040", "#e2c13c", "#dd7b28", "#e59bb0", "#6d4592", "#cdb58c", "#6e4a2f", "#1f7f80",
)
_LEGS = ("#1d1e22", "#33415f", "#4a6690", "#6c7076", "#b3a179", "#5a4632", "#2d3b2f", "#d9d5cb", "#7a2c33")
_SHOES = ("#17171a", "#efefec", "#6b4426", "#b02a2f", "#2a4a8c", "#8d9196", "#d0a53a")
_SKIN = ("#f3d3bd", "#e5b896", "#cf9a72", "#a8714b", "#7c4d31", "#553322")
_HAIR = ("#17130f", "#33231a", "#5c3a21", "#97652f", "#cfa95e", "#8f3a1e", "#a7a5a2")
# fmt: on


@dataclass(frozen=True)
class Person:
    """One person, described by what a camera can see.

    Attributes:
        id: Identity across all films, from 1.
        lookalike_of: Id of the person that differs in exactly one attribute; 0 = none.
        upper: Colour of the upper garment.
        accent: Second colour of its pattern; of an open jacket, the shirt beneath.
        height: Metres.
        girth: Width of the body relative to its height; 1 = average.
        logo: Where the upper garment carries a logo: the left chest or the back, so one side never shows it.
    """

    id: int
    lookalike_of: int
    upper: Colour
    accent: Colour
    pattern: Pattern
    sleeve: Sleeve
    lower: Lower
    lower_colour: Colour
    shoes: Colour
    skin: Colour
    hair: Hair
    hair_colour: Colour
    hat: Hat
    hat_colour: Colour
    bag: Bag
    bag_colour: Colour
    height: float
    girth: float
    logo: Logo
    logo_colour: Colour

    def attributes(self) -> dict[str, object]:
        """All visible attributes: everything but the ids."""
        plain = dataclasses.asdict(self)
        del plain["id"], plain["lookalike_of"]
        return plain


def draw_people(count: int, *, lookalikes: float, seed: int, first: int = 1) -> list[Person]:
    """Draws people.

    Args:
        count: Number of people.
        lookalikes: Share, in [0, 1], of people who differ in exactly one attribute from another one.
        seed: Random seed.
        first: The first id; the others follow.
    """
    alike = min(round(count * lookalikes), max(count - 1, 0))
    rng = generator(seed, "crowd", first)
    people = [_draw_person(rng, first + i) for i in range(count - alike)]
    originals = len(people)
    for i in range(alike):
        people.append(_draw_lookalike(rng, first + originals + i, people[int(rng.integers(originals))]))
    return people


def rgb(colour: Colour) -> tuple[int, int, int]:
    """The three channels, 0 to 255.

    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _draw_person(rng: np.random.Generator, number: int) -> Person:
    hat: Hat = _choose(rng, ("none", "cap", "beanie", "sun hat"), (0.68, 0.16, 0.1, 0.06))
    upper = _draw_colour(rng, _CLOTH)
    return Person(
        id=number,
        lookalike_of=0,
        upper=upper,
        accent=_draw_other_colour(rng, _CLOTH, upper),
        pattern=_choose(
            rng,
            ("plain", "horizontal stripes", "vertical stripes", "check", "dots", "two-tone", "open jacket"),
            (0.34, 0.13, 0.08, 0.09, 0.08, 0.12, 0.16),
        ),
        sleeve=_choose(rng, ("none", "short", "long"), (0.1, 0.4, 0.5)),
        lower=_choose(rng, ("trousers", "shorts", "skirt"), (0.62, 0.2, 0.18)),
        lower_colour=_draw_colour(rng, _LEGS),
        shoes=_draw_colour(rng, _SHOES),
        skin=_draw_colour(rng, _SKIN, spread=5.0),
        hair=_choose(rng, ("bald", "short", "long", "ponytail"), (0.06, 0.44, 0.32, 0.18)),
        hair_colour=_draw_colour(rng, _HAIR, spread=6.0),
        hat=hat,
        hat_colour=_draw_colour(rng, _CLOTH),
        bag=_choose(rng, ("none", "backpack", "shoulder bag", "handbag"), (0.46, 0.24, 0.17, 0.13)),
        bag_colour=_draw_colour(rng, _CLOTH),
        height=round(float(np.clip(rng.normal(1.71, 0.09), 1.5, 1.95)), 3),
        girth=round(float(np.clip(rng.normal(1.0, 0.13), 0.8, 1.35)), 3),
        logo=_choose(rng, ("none", "chest", "back"), (0.6, 0.22, 0.18)),
        logo_colour=_draw_other_colour(rng, _CLOTH, upper),
    )


def _draw_lookalike(rng: np.random.Generator, number: int, other: Person) -> Person:
    """A copy with one attribute changed to a visibly different value."""
    kinds: dict[str, tuple[str, ...]] = {
        "pattern": ("plain", "horizontal stripes", "vertical stripes", "check", "dots", "two-tone"),
        "sleeve": ("none", "short", "long"),
        "lower": ("trousers", "shorts", "skirt"),
        "hat": ("none", "cap", "beanie", "sun hat"),
        "bag": ("none", "backpack", "shoulder bag", "handbag"),
        "logo": ("none", "chest", "back"),
    }
    dyes: dict[str, tuple[Colour, ...]] = {"upper": _CLOTH, "lower_colour": _LEGS, "shoes": _SHOES}
    if other.hair != "bald":
        dyes["hair_colour"] = _HAIR
    if other.bag != "none":
        dyes["bag_colour"] = _CLOTH
    names = [*kinds, *dyes, "girth"]
    name = names[int(rng.integers(len(names)))]
    old = getattr(other, name)
    value: object
    if name in kinds:
        rest = [kind for kind in kinds[name] if kind != old]
        value = rest[int(rng.integers(len(rest)))]
    elif name in dyes:
        value = _draw_other_colour(rng, dyes[name], old)
    else:
        value = round(old + 0.25 if old < 1.08 else old - 0.25, 3)
    change: dict[str, object] = {"id": number, "lookalike_of": other.id, name: value}
    return dataclasses.replace(other, **change)  # type: ignore[arg-type]


def _choose(rng: np.random.Generator, values: tuple[T, ...], weights: tuple[float, ...]) -> T:
    return values[int(rng.choice(len(values), p=np.asarray(weights) / sum(weights)))]


def _draw_colour(rng: np.random.Generator, palette: tuple[Colour, ...], spread: float = 9.0) -> Colour:
    base = np.array(rgb(palette[int(rng.integers(len(palette)))]), float)
    made = np.clip(np.rint(base + rng.normal(0, spread, 3)), 0, 255).astype(int)
    return "#" + "".join(f"{channel:02x}" for channel in made)


def _draw_other_colour(rng: np.random.Generator, palette: tuple[Colour, ...], old: Colour) -> Colour:
    """A colour of the palette clearly different from `old`."""
    far = tuple(c for c in palette if np.abs(np.subtract(rgb(c), rgb(old))).sum() > 120)
    return _draw_colour(rng, far)
