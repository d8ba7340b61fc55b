"""Films the synthetic world: videos, their ground truth, and a probe set of people who are never in them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated

from reappear.core import SILENT, Progress, SettingsError, process_pool, settings
from reappear.store import write_text, writing
from reappear.synthetic import Film, World, imagine, record, shoot_probe

from .record import Outcome, Record, run_step
from .settings import to_plain

# What to do, with which film, and the file that shows that it is done.
Job = tuple[Callable[[World, Film, Path], None], Film, Path]


@settings
class SynthesizeSettings:
    """What to film."""

    people: Annotated[int, "people in the films"] = 300
    probe_people: Annotated[int, "people of the probe set, who are never in the films"] = 100
    cameras: Annotated[int, "cameras"] = 3
    films: Annotated[int, "films of each camera"] = 4
    appearances: Annotated[int, "how often each person is filmed, in every camera before any camera twice"] = 3
    returns: Annotated[float, "share of appearances after which a person comes back in the same film"] = 0.1
    lookalikes: Annotated[float, "share of people who differ from somebody else in exactly one attribute"] = 0.15
    width: Annotated[int, "width of a frame in pixels; even"] = 448
    height: Annotated[int, "height of a frame in pixels; even"] = 320
    rate: Annotated[float, "frames a second"] = 8.0
    lead_in: Annotated[float, "seconds without people at the beginning of each film"] = 0.5
    crowding: Annotated[int, "how many people may be in view at once"] = 6
    overlap: Annotated[float, "largest share of a person's time that may be spent touching another in the picture"] = (
        0.15
    )
    cast: Annotated[float, "largest colour cast: each camera's channel gains lie within 1 ± cast"] = 0.12
    degrade: Annotated[float, "factor of blur, noise and compression; 1 = ordinary surveillance, 0 = none"] = 1.0
    shadow: Annotated[float, "darkness of the shadows at people's feet, 0 to 1"] = 0.4
    visible: Annotated[float, "least visible share of a body from which ground truth names it"] = 0.25
    shots: Annotated[int, "probe images of each person and camera; the first becomes the query"] = 4
    seed: Annotated[int, "seed of the world"] = 0
    workers: Annotated[int, "films made at the same time; 0 = one per processor. The films are the same"] = 0


def synthesize(folder: Path, settings: SynthesizeSettings, *, progress: Progress = SILENT) -> Record:
    """Films a world into `folder`.

    `films/<camera>_<nn>.mp4` and `.gt.txt` (MOTChallenge, ids hold across films), `probe/query` and
    `probe/bounding_box_test` (Market-1501 layout), `world.yaml` (everything needed to film it again).
    A call that was cut off continues with the first film that is not finished.

    Raises:
        SettingsError: A value is out of range.
        StorageError: The disk refused.
        WorkspaceError: `folder` was made with other settings.
    """
    _check(settings)
    plain = to_plain(settings)
    del plain["workers"]  # changes nothing in the result

    def work(aside: Path) -> Outcome:
        world = imagine(
            seed=settings.seed,
            people=settings.people,
            probe_people=settings.probe_people,
            cameras=settings.cameras,
            films=settings.films,
            appearances=settings.appearances,
            returns=settings.returns,
            lookalikes=settings.lookalikes,
            size=(settings.width, settings.height),
            rate=settings.rate,
            lead_in=settings.lead_in,
            crowding=settings.crowding,
            overlap=settings.overlap,
            cast=settings.cast,
            degrade=settings.degrade,
            shadow=settings.shadow,
            visible=settings.visible,
            shots=settings.shots,
        )
        write_text(aside / "world.yaml", world.to_yaml())
        return film_world(world, aside, workers=settings.workers, progress=progress)

    return run_step(folder, step="synthesize", settings=plain, inputs={}, work=work, progress=progress)


def film_world(world: World, folder: Path, *, workers: int = 1, progress: Progress = SILENT) -> Outcome:
    """Films everything of a world that is not yet in `folder`."""
    jobs: list[Job] = [(_film, film, folder / "films" / f"{film.name}.mp4") for film in world.films]
    jobs += [(_probe, film, folder / "probe" / f".{film.camera}.done") for film in world.probe if film.walks]
    for stale in folder.glob("*/.*.tmp"):  # of a call that was cut off
        stale.unlink()
    left = [job for job in jobs if not job[2].exists()]
    if len(left) < len(jobs):
        progress.note(f"synthesize: {len(jobs) - len(left)} of {len(jobs)} recordings are already there")
    with progress.task("filming", sum(film.frames for _, film, _ in left)) as advance:
        for film in _each(world, left, workers):
            advance(film.frames)
    for _, _, done in jobs:
        if done.suffix == ".done":
            done.unlink()
    images = {split: len(list((folder / "probe" / split).glob("*.jpg"))) for split in ("query", "bounding_box_test")}
    return Outcome(
        {
            "films": len(world.films),
            "frames": sum(film.frames for film in world.films),
            "appearances": sum(len(film.walks) for film in world.films),
            "people": len(world.people),
            "probe_people": len(world.probe_people),
            "query": images["query"],
            "gallery": images["bounding_box_test"],
        }
    )


def _each(world: World, jobs: Sequence[Job], workers: int) -> Iterator[Film]:
    """Does the jobs, yielding what is finished."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        for work, film, path in jobs:
            work(world, film, path)
            yield film
        return
    with process_pool(workers) as pool:
        waiting = {pool.submit(work, world, film, path): film for work, film, path in jobs}
        for done in as_completed(waiting):
            done.result()
            yield waiting[done]


def _film(world: World, film: Film, path: Path) -> None:
    """The truth is written before the film gets its name: a film that is there is finished."""
    with writing(path) as aside:
        with aside.open("wb") as video:
            truth = record(world, film, video)
        write_text(path.with_suffix(".gt.txt"), truth)


def _probe(world: World, film: Film, done: Path) -> None:
    """Market-1501 names: person (from 1), camera (from 1), sequence, frame, detection."""
    first = world.probe_people[0].id
    camera = [camera.name for camera in world.cameras].index(film.camera) + 1
    seen: set[int] = set()
    for shot in shoot_probe(world, film):
        split = "bounding_box_test" if shot.person in seen else "query"
        seen.add(shot.person)
        name = f"{shot.person - first + 1:04d}_c{camera}s1_{shot.frame:06d}_00.jpg"
        with writing(done.parent / split / name) as aside:
            aside.write_bytes(shot.jpeg())
    write_text(done, "")


def _check(settings: SynthesizeSettings) -> None:
    least = {"people": 1, "probe_people": 0, "cameras": 1, "films": 1, "appearances": 1, "crowding": 1, "shots": 2}
    for name, low in {**least, "workers": 0, "seed": 0, "width": 96, "height": 96}.items():
        if getattr(settings, name) < low:
            raise SettingsError(f"{name} must be {low} or more, got {getattr(settings, name)}")
    for name in ("returns", "lookalikes", "overlap", "shadow", "visible"):
        if not 0 <= getattr(settings, name) <= 1:
            raise SettingsError(f"{name} must lie between 0 and 1, got {getattr(settings, name)}")
    for name in ("width", "height"):
        if getattr(settings, name) % 2:
            raise SettingsError(f"{name} must be even for H.264, got {getattr(settings, name)}")
    if not 1 <= settings.rate <= 60:
        raise SettingsError(f"rate must lie between 1 and 60 frames a second, got {settings.rate}")
    if not 0 <= settings.cast < 1:
        raise SettingsError(f"cast must be at least 0 and less than 1, got {settings.cast}")
    for name in ("lead_in", "degrade"):
        if getattr(settings, name) < 0:
            raise SettingsError(f"{name} must not be negative, got {getattr(settings, name)}")
