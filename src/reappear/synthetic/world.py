"""The whole world as data: who lives in it, what films them, when they walk where. YAML out, YAML in."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from reappear.core import InputError, generator

from .cameras import Camera, install
from .people import Person, crowd
from .walks import Walk, arrange


@dataclass(frozen=True)
class Film:
    """One recording.

    Attributes:
        name: `<camera>_<nn>`.
        camera: Name of the camera.
        frames: How many.
        walks: In the order of their start.
    """

    name: str
    camera: str
    frames: int
    walks: tuple[Walk, ...]


@dataclass(frozen=True)
class World:
    """Everything that is needed to film the same pictures again.

    Attributes:
        seed: It was drawn from.
        shadow: Darkness of the shadows at people's feet, in [0, 1].
        visible: Least visible share of a body, in [0, 1], from which ground truth names it.
        shots: Images of each probe person and camera.
        cameras: They film both films and probe.
        people: Who walks through the films.
        probe_people: Who is never in the films.
        films: To be encoded as video.
        probe: One recording per camera, of which only some frames are painted.
    """

    seed: int
    shadow: float
    visible: float
    shots: int
    cameras: tuple[Camera, ...]
    people: tuple[Person, ...]
    probe_people: tuple[Person, ...]
    films: tuple[Film, ...]
    probe: tuple[Film, ...]

    @cached_property
    def by_id(self) -> dict[int, Person]:
        """Everybody."""
        return {person.id: person for person in (*self.people, *self.probe_people)}

    def camera(self, film: Film) -> Camera:
        """Who filmed it."""
        return next(camera for camera in self.cameras if camera.name == film.camera)

    def to_yaml(self) -> str:
        """A description that `from_yaml` reads back without loss."""
        plain = _plain(dataclasses.asdict(self))
        return str(yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, default_flow_style=None, width=160))

    @staticmethod
    def from_yaml(text: str) -> "World":
        """Reads a description.

        Raises:
            InputError: It is not YAML, or not a world; the message names the first place.
        """
        try:
            return _ADAPTER.validate_python(yaml.load(text, _LOADER))  # noqa: S506 (a safe loader, in C where there is one)
        except yaml.YAMLError as error:
            raise InputError(f"world description is not YAML: {' '.join(str(error).split())}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "it"
            raise InputError(f"world description: {where}: {first['msg'].lower()}; film the world anew") from error


_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ADAPTER = TypeAdapter(World)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def imagine(
    *,
    seed: int = 0,
    people: int = 300,
    probe_people: int = 100,
    cameras: int = 3,
    films: int = 4,
    appearances: int = 3,
    returns: float = 0.1,
    lookalikes: float = 0.15,
    size: tuple[int, int] = (448, 320),
    rate: float = 8.0,
    lead_in: float = 0.5,
    crowding: int = 6,
    overlap: float = 0.15,
    cast: float = 0.12,
    degrade: float = 1.0,
    shadow: float = 0.4,
    visible: float = 0.25,
    shots: int = 4,
) -> World:
    """Draws a world. Same values, same world.

    Args:
        seed: Of everything.
        people: Who walk through the films.
        probe_people: Who do not.
        cameras: How many.
        films: For each camera.
        appearances: How often each person is filmed, in as many cameras as there are before any camera twice.
        returns: Share of appearances, in [0, 1], after which a person leaves and comes back in the same film.
        lookalikes: Share of people who differ from another person in exactly one attribute.
        size: Width and height of a frame, in pixels.
        rate: Frames a second.
        lead_in: Seconds at the beginning of each film without people.
        crowding: How many people may be in view at once.
        overlap: Largest share of a person's time that may be spent touching another in the picture.
        cast: Largest colour cast: each channel's gain lies within 1 ± cast.
        degrade: Factor of blur, noise and compression; 1 = ordinary surveillance, 0 = none.
        shadow: Darkness of the shadows at people's feet.
        visible: Least visible share of a body from which ground truth names it.
        shots: Images of each probe person and camera.
    """
    eyes = install(cameras, size=size, rate=rate, cast=cast, degrade=degrade, seed=seed)
    public = crowd(people, lookalikes=lookalikes, seed=seed)
    hidden = crowd(probe_people, lookalikes=lookalikes, seed=seed, first=people + 1)

    def film(name: str, camera: Camera, walkers: Sequence[Person]) -> Film:
        walks, frames = arrange(
            list(walkers), camera, lead_in=lead_in, crowd=crowding, overlap=overlap, seed=seed, film=name
        )
        return Film(name, camera.name, frames, tuple(walks))

    casts = _assign(public, cameras, films, appearances, returns, seed)
    return World(
        seed=seed,
        shadow=shadow,
        visible=visible,
        shots=shots,
        cameras=tuple(eyes),
        people=tuple(public),
        probe_people=tuple(hidden),
        films=tuple(
            film(f"{eyes[c].name}_{n:02d}", eyes[c], walkers)
            for (c, n), walkers in sorted(casts.items(), key=lambda item: item[0])
        ),
        probe=tuple(film(f"{camera.name}_probe", camera, hidden) for camera in eyes),
    )


def _assign(
    people: Sequence[Person], cameras: int, films: int, appearances: int, returns: float, seed: int
) -> dict[tuple[int, int], list[Person]]:
    """Who comes in which film of which camera, in a drawn order."""
    rng = generator(seed, "assign")
    casts: dict[tuple[int, int], list[Person]] = {(c, n): [] for c in range(cameras) for n in range(films)}
    for person in people:
        order = [int(camera) for _ in range(-(-appearances // cameras)) for camera in rng.permutation(cameras)]
        for camera in order[:appearances]:
            cast = casts[camera, int(rng.integers(films))]
            cast.append(person)
            if rng.random() < returns:
                cast.append(person)
    return {key: [cast[i] for i in rng.permutation(len(cast))] for key, cast in casts.items()}
