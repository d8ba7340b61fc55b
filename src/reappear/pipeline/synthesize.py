"""Renders a synthetic world: videos, their ground truth, and a test set of people who are not in them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated

from reappear.core import OPERATIONAL, SILENT, Processes, Progress, counted, process_pool, settings
from reappear.store import atomic_write, write_text
from reappear.synthetic import Film, World, WorldSettings, encode_film, generate_world, render_test_images

from .record import Outcome, Record, run_step

# Function, film, and the file that exists once the film is done.
Job = tuple[Callable[[World, Film, Path], None], Film, Path]


@settings
class SynthesizeSettings(WorldSettings):
    """Size and difficulty of a synthetic world, and how it is rendered."""

    workers: Annotated[
        Processes, "films rendered at the same time; 0 = one per processor. The result is the same", OPERATIONAL
    ] = 0


def synthesize(folder: Path, settings: SynthesizeSettings, *, progress: Progress = SILENT) -> Record:
    """Renders a world into `folder`.

    Writes `films/<camera>_<nn>.mp4` and `.gt.txt` (MOTChallenge; ids are the same in all films), `test/query` and
    `test/bounding_box_test` (Market-1501 layout), `world.yaml` (everything needed to render it again).
    An interrupted call continues with the first film that is not finished.

    Raises:
        StorageError: Writing failed.
        WorkspaceError: `folder` was made with other settings.
    """

    def work(staging: Path) -> Outcome:
        world = generate_world(settings)
        write_text(staging / "world.yaml", world.to_yaml())
        return render_world(world, staging, workers=settings.workers, progress=progress)

    return run_step(folder, step="synthesize", settings=settings, inputs={}, work=work, progress=progress)


def render_world(world: World, folder: Path, *, workers: int = 1, progress: Progress = SILENT) -> Outcome:
    """Renders everything of a world that is not yet in `folder`."""
    jobs: list[Job] = [(_render_film, film, folder / "films" / f"{film.name}.mp4") for film in world.films]
    jobs += [
        (_render_test_set, film, folder / "test" / f".{film.camera}.done") for film in world.test_films if film.walks
    ]
    for stale in folder.glob("*/.*.tmp"):  # of an interrupted call
        stale.unlink()
    left = [job for job in jobs if not job[2].exists()]
    if len(left) < len(jobs):
        progress.note(f"synthesize: already there: {len(jobs) - len(left)} of {counted(len(jobs), 'recording')}")
    with progress.task("rendering", sum(film.frames for _, film, _ in left), "frame") as advance:
        for film in _run(world, left, workers):
            advance(film.frames)
    for _, _, done in jobs:
        if done.suffix == ".done":
            done.unlink()
    images = {split: len(list((folder / "test" / split).glob("*.jpg"))) for split in ("query", "bounding_box_test")}
    return Outcome(
        {
            "films": len(world.films),
            "frames": sum(film.frames for film in world.films),
            "appearances": sum(len(film.walks) for film in world.films),
            "people": len(world.people),
            "test_people": len(world.test_people),
            "query": images["query"],
            "gallery": images["bounding_box_test"],
        },
        made=len(world.films),
    )


def _run(world: World, jobs: Sequence[Job], workers: int) -> Iterator[Film]:
    """Runs the jobs and yields each film when it is done."""
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


def _render_film(world: World, film: Film, path: Path) -> None:
    """Ground truth is written before the film gets its final name, so a film that exists is finished."""
    with atomic_write(path) as staging:
        with staging.open("wb") as video:
            truth = encode_film(world, film, video)
        write_text(path.with_suffix(".gt.txt"), truth)


def _render_test_set(world: World, film: Film, done: Path) -> None:
    """Names as in Market-1501: person (from 1), camera (from 1), sequence, frame, detection."""
    first = world.test_people[0].id
    camera = [camera.name for camera in world.cameras].index(film.camera) + 1
    seen: set[int] = set()
    for image in render_test_images(world, film):
        split = "bounding_box_test" if image.person in seen else "query"
        seen.add(image.person)
        name = f"{image.person - first + 1:04d}_c{camera}s1_{image.frame:06d}_00.jpg"
        with atomic_write(done.parent / split / name) as staging:
            staging.write_bytes(image.jpeg())
    write_text(done, "")
