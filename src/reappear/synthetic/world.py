"""A synthetic world as data: people, cameras, and who walks where and when; stored as YAML."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import yaml
from annotated_types import Interval, MultipleOf
from pydantic import TypeAdapter, ValidationError

from reappear.core import Fraction, InputError, Seed, generator, settings

from .cameras import Camera, draw_cameras
from .people import Person, draw_people
from .walks import Walk, schedule_walks

EvenSide = Annotated[int, Interval(ge=96, le=4096), MultipleOf(2)]  # H.264 halves the resolution of colour


@settings
class WorldSettings:
    """Size and difficulty of a synthetic world."""

    people: Annotated[int, "people in the films", Interval(ge=1, le=1_000_000)] = 300
    test_people: Annotated[int, "people of the test set, who are not in the films", Interval(ge=0, le=1_000_000)] = 100
    cameras: Annotated[int, "cameras", Interval(ge=1, le=1000)] = 3
    films: Annotated[int, "films of each camera", Interval(ge=1, le=1000)] = 4
    appearances: Annotated[
        int, "how often each person is filmed, in every camera before any camera twice", Interval(ge=1, le=1000)
    ] = 3
    returns: Annotated[Fraction, "share of appearances after which a person comes back in the same film"] = 0.1
    lookalikes: Annotated[Fraction, "share of people who differ from another person in exactly one attribute"] = 0.15
    width: Annotated[EvenSide, "width of a frame in pixels"] = 448
    height: Annotated[EvenSide, "height of a frame in pixels"] = 320
    rate: Annotated[float, "frames a second", Interval(ge=1, le=60)] = 8.0
    lead_in: Annotated[float, "seconds without people at the beginning of each film", Interval(ge=0, le=3600)] = 0.5
    crowding: Annotated[int, "how many people may be in view at once", Interval(ge=1, le=1000)] = 6
    overlap: Annotated[
        Fraction, "largest share of a person's time that may be spent touching another in the picture"
    ] = 0.15
    cast: Annotated[
        float, "largest colour cast: each camera's channel gains lie within 1 ± cast", Interval(ge=0, lt=1)
    ] = 0.12
    degrade: Annotated[
        float, "factor of blur, noise and compression; 1 = ordinary surveillance, 0 = none", Interval(ge=0, le=10)
    ] = 1.0
    shadow: Annotated[Fraction, "darkness of the shadows at people's feet"] = 0.4
    visible: Annotated[Fraction, "least visible share of a body from which ground truth names it"] = 0.25
    test_images: Annotated[
        int, "test images of each person and camera; the first becomes the query", Interval(ge=2, le=1000)
    ] = 4
    seed: Annotated[Seed, "seed of the world"] = 0


@dataclass(frozen=True)
class Film:
    """One recording of one camera.

    Attributes:
        name: `<camera>_<nn>`.
        camera: Name of the camera.
        frames: Number of frames.
        walks: Sorted by start time.
    """

    name: str
    camera: str
    frames: int
    walks: tuple[Walk, ...]


@dataclass(frozen=True)
class World:
    """Everything that is needed to render the same images again.

    Attributes:
        seed: Seed that the world was drawn from.
        shadow: Darkness of the shadows at people's feet, in [0, 1].
        visible: Least visible share of a body, in [0, 1], from which ground truth contains it.
        test_images: Images of each test person and camera.
        cameras: Cameras of both the films and the test images.
        people: People in the films.
        test_people: People of the test set; not in the films.
        films: Recordings that are encoded as video.
        test_films: One recording per camera, of which only some frames are rendered.
    """

    seed: int
    shadow: float
    visible: float
    test_images: int
    cameras: tuple[Camera, ...]
    people: tuple[Person, ...]
    test_people: tuple[Person, ...]
    films: tuple[Film, ...]
    test_films: tuple[Film, ...]

    @cached_property
    def people_by_id(self) -> dict[int, Person]:
        """All people by id."""
        return {person.id: person for person in (*self.people, *self.test_people)}

    def camera(self, film: Film) -> Camera:
        """The camera of a film."""
        return next(camera for camera in self.cameras if camera.name == film.camera)

    def to_yaml(self) -> str:
        """The world as YAML, which `from_yaml` reads back without loss."""
        plain = _plain(dataclasses.asdict(self))
        return str(yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, default_flow_style=None, width=160))

    @staticmethod
    def from_yaml(text: str) -> "World":
        """Reads a world from YAML.

        Raises:
            InputError: The text is not YAML or not a world; the message names the first invalid field.
        """
        try:
            return _ADAPTER.validate_python(yaml.load(text, _LOADER))  # noqa: S506 (a safe loader, in C where there is one)
        except yaml.YAMLError as error:
            raise InputError(f"world description is not YAML: {' '.join(str(error).split())}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "top level"
            raise InputError(
                f"world description: {where}: {first['msg'].lower()}; run `reappear synthesize` again"
            ) from error


_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ADAPTER = TypeAdapter(World)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def generate_world(settings: WorldSettings) -> World:
    """Draws a world: people, cameras, and who walks where and when. The same settings give the same world."""
    s = settings
    cameras = draw_cameras(
        s.cameras, size=(s.width, s.height), rate=s.rate, cast=s.cast, degrade=s.degrade, seed=s.seed
    )
    people = draw_people(s.people, lookalikes=s.lookalikes, seed=s.seed)
    test_people = draw_people(s.test_people, lookalikes=s.lookalikes, seed=s.seed, first=s.people + 1)

    def film(name: str, camera: Camera, walkers: Sequence[Person]) -> Film:
        walks, frames = schedule_walks(
            list(walkers), camera, lead_in=s.lead_in, crowd=s.crowding, overlap=s.overlap, seed=s.seed, film=name
        )
        return Film(name, camera.name, frames, tuple(walks))

    walkers_by_film = _assign_to_films(people, s)
    return World(
        seed=s.seed,
        shadow=s.shadow,
        visible=s.visible,
        test_images=s.test_images,
        cameras=tuple(cameras),
        people=tuple(people),
        test_people=tuple(test_people),
        films=tuple(
            film(f"{cameras[c].name}_{n:02d}", cameras[c], walkers)
            for (c, n), walkers in sorted(walkers_by_film.items(), key=lambda item: item[0])
        ),
        # The name seeds the walks and the noise of these recordings.
        test_films=tuple(film(f"{camera.name}_probe", camera, test_people) for camera in cameras),
    )


def _assign_to_films(people: Sequence[Person], settings: WorldSettings) -> dict[tuple[int, int], list[Person]]:
    """(camera, film of that camera) -> the people who walk through it, in random order; some appear twice."""
    rng = generator(settings.seed, "assign")
    cameras, films = settings.cameras, settings.films
    walkers: dict[tuple[int, int], list[Person]] = {(c, n): [] for c in range(cameras) for n in range(films)}
    for person in people:
        rounds = -(-settings.appearances // cameras)
        order = [int(camera) for _ in range(rounds) for camera in rng.permutation(cameras)]
        for camera in order[: settings.appearances]:
            there = walkers[camera, int(rng.integers(films))]
            there.append(person)
            if rng.random() < settings.returns:
                there.append(person)
    return {key: [there[i] for i in rng.permutation(len(there))] for key, there in walkers.items()}
