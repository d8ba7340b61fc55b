import numpy as np

from reappear.video import ByteTrackSettings, MotSettings, follow, open_footage

from .films import WALKERS, Walker, pictures, write_film, write_truth


def test_tracklets_match_the_walkers(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(30))
    write_truth(tmp_path / "a.gt.txt", 30)
    footage = open_footage(film)
    ticks = []
    seen = follow(
        footage, MotSettings().build(footage), ByteTrackSettings(minimum_frames=2).build(rate=10.0), tick=ticks.append
    )
    assert (seen.detections, seen.frames, seen.damage, sum(ticks)) == (60, 30, "", 30)
    assert len(seen.tracks) == 2
    for t, walker in enumerate(WALKERS):
        rows = slice(*seen.tracks.offsets[t : t + 2])
        frames = seen.tracks.frame[rows]
        assert frames.tolist() == list(range(1, 30))
        assert np.allclose(seen.tracks.box[rows], [walker.box(frame) for frame in frames])
        assert np.allclose(seen.time[rows], frames / 10)


def test_detector_with_track_ids_bypasses_tracker(tmp_path):
    late, early = Walker(1, 10, 70, 2, (200, 0, 0)), Walker(8, 90, 130, 2, (0, 0, 200))
    film = write_film(tmp_path / "a.mp4", pictures(10, (late, early)))
    lines = [
        f"{f + 1},{w.identity},{w.left},20,16,44,1,1,1" for f in range(10) for w in (late, early) if f > 4 or w is early
    ]
    (tmp_path / "a.gt.txt").write_text("\n".join(lines))
    footage = open_footage(film)
    seen = follow(footage, MotSettings(ids="video").build(footage), ByteTrackSettings().build(rate=10.0))
    assert np.diff(seen.tracks.offsets).tolist() == [10, 5]
    assert seen.tracks.box[0, 0] == early.left


def test_video_without_people_has_no_tracklets(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(5, ()))
    (tmp_path / "a.det.txt").write_text("")
    footage = open_footage(film)
    seen = follow(footage, MotSettings().build(footage), ByteTrackSettings().build(rate=10.0), stride=2)
    assert (len(seen.tracks), seen.detections, seen.seconds) == (0, 0, 0.4)
