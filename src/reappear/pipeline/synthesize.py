"""Films the synthetic world: videos, their ground truth, and a probe set of people who are never in them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated

from annotated_types import Interval, MultipleOf

from reappear.core import SILENT, Fraction, Processes, Progress, Seed, process_pool, settings
from reappear.store import atomic_write, write_text
from reappear.synthetic import Film, World, imagine, record, shoot_probe

from .record import Outcome, Record, run_step
from .settings import to_plain

# What to do, with which film, and the file that shows that it is done.
EvenSide = Annotated[int, Interval(ge=96, le=4096), MultipleOf(2)]  # H.264 halves the colours
Job = tuple[Callable[[World, Film, Path], None], Film, Path]


@settings
class SynthesizeSettings:
    """What to film."""

    people: Annotated[int, "people in the films", Interval(ge=1, le=1_000_000)] = 300
    probe_people: Annotated[
        int, "people of the probe set, who are never in the films", Interval(ge=0, le=1_000_000)
    ] = 100
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
    shots: Annotated[
        int, "probe images of each person and camera; the first becomes the query", Interval(ge=2, le=1000)
    ] = 4
    seed: Annotated[Seed, "seed of the world"] = 0
    workers: Annotated[Processes, "films made at the same time; 0 = one per processor. The films are the same"] = 0


def synthesize(folder: Path, settings: SynthesizeSettings, *, progress: Progress = SILENT) -> Record:
    """Films a world into `folder`.

    `films/<camera>_<nn>.mp4` and `.gt.txt` (MOTChallenge, ids hold across films), `probe/query` and
    `probe/bounding_box_test` (Market-1501 layout), `world.yaml` (everything needed to film it again).
    A call that was cut off continues with the first film that is not finished.

    Raises:
        StorageError: The disk refused.
        WorkspaceError: `folder` was made with other settings.
    """
    plain = to_plain(settings)
    del plain["workers"]  # changes nothing in the result

    def work(staging: Path) -> Outcome:
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
        write_text(staging / "world.yaml", world.to_yaml())
        return film_world(world, staging, workers=settings.workers, progress=progress)

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
        },
        made=len(world.films),
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
    with atomic_write(path) as staging:
        with staging.open("wb") as video:
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
        with atomic_write(done.parent / split / name) as staging:
            staging.write_bytes(shot.jpeg())
    write_text(done, "")
