import numpy as np

from reappear.synthetic.crops import crop_image, jitter_box


def test_jittered_box_is_larger_and_displaced() -> None:
    rng = np.random.default_rng(0)
    box = np.array([200.0, 100.0, 300.0, 300.0])
    edges = np.array([jitter_box(box, (600, 400), rng) for _ in range(4000)])
    error = (edges - box) / [100, 200, 100, 200]
    np.testing.assert_allclose(error.mean(axis=0), [-0.05, -0.05, 0.05, 0.05], atol=0.004)
    np.testing.assert_allclose(error.std(axis=0), 0.03, atol=0.004)


def test_crop_stays_inside_the_frame_and_is_never_empty() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((20, 30, 3), np.uint8)
    for corner in ((0, 0), (27, 0), (0, 18), (29, 19)):
        for _ in range(50):
            crop = crop_image(image, np.array([*corner, corner[0] + 1.0, corner[1] + 1.0]), rng)
            assert min(crop.shape[:2]) >= 2
