import jaxtyping
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError, generator
from reappear.metrics import RetrievalTask, rank, rank_task, top
from tests.references import ranking as literal

few = settings(max_examples=60, deadline=None)


def line(*cosines):
    """Unit vectors in the plane with these cosines to (1, 0)."""
    cosines = np.array(cosines)
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


ASKED = line(1.0)
WHO = np.array([1])


@pytest.fixture
def unchecked():
    """Users run without the checks of annotations that tests add: what they are told then is tested here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_ranking_worked_by_hand():
    """Hits at ranks 1, 3 and 6: AP = (1/1 + 2/3 + 3/6) / 3, INP = 3/6."""
    gallery = line(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    found = rank(ASKED, gallery, query_ids=WHO, gallery_ids=np.array([1, 0, 1, 2, 3, 1]), ranks=4)
    assert found.mean_ap == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert found.mean_inp == pytest.approx(0.5)
    assert found.cmc.tolist() == [1, 1, 1, 1]


def test_first_hit_at_rank_three_counts_from_there():
    found = rank(ASKED, line(0.9, 0.8, 0.7), query_ids=WHO, gallery_ids=np.array([2, 3, 1]), ranks=5)
    assert found.cmc.tolist() == [0, 0, 1, 1, 1]
    assert found.mean_ap == pytest.approx(1 / 3)


def test_junk_is_not_there_and_distractors_are_wrong():
    gallery = line(0.9, 0.8, 0.7)
    without = rank(ASKED, gallery, query_ids=WHO, gallery_ids=np.array([-1, -1, 1]))
    against = rank(ASKED, gallery, query_ids=WHO, gallery_ids=np.array([0, 0, 1]))
    assert without.mean_ap == 1
    assert against.mean_ap == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("market", 1 / 2),  # the own camera's image of the person is passed over, its impostor is not
        ("cross-camera", 1.0),
        ("no-camera", (1 + 2 / 3) / 2),
        ("video", 1 / 2),
        ("cuhk03-single-gallery-shot", 1.0),
    ],
)
def test_protocols(protocol, expected):
    found = rank(
        ASKED,
        line(0.9, 0.8, 0.7),
        query_ids=WHO,
        gallery_ids=np.array([1, 2, 1]),
        query_cameras=np.array([1]),
        gallery_cameras=np.array([1, 1, 2]),
        protocol=protocol,
    )
    assert found.mean_ap == pytest.approx(expected)


def test_a_gallery_of_tracklets_holds_the_queries_too():
    """GRL's rule: another query of the person, by another camera, is an answer; an impostor's is a wrong one."""
    given_ = {
        "query": line(1.0, 0.9, 0.8),
        "gallery": line(0.5, 0.4),
        "query_ids": np.array([1, 2, 1]),
        "gallery_ids": np.array([1, 2]),
        "query_cameras": np.array([1, 1, 2]),
        "gallery_cameras": np.array([3, 3]),
    }
    asked, answers = given_.pop("query"), given_.pop("gallery")
    with_queries = rank(asked, answers, **given_, protocol="video")
    # Of query 0: person 2 asked for at 0.9, person 1 asked for at 0.8, then the gallery: hits at 2 and 3.
    assert with_queries.average_precision[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    without = rank(asked, answers, **given_, protocol="video", gallery_includes_query=False)
    assert without.average_precision[0] == 1
    assert without.mean_ap == rank(asked, answers, **given_, protocol="market").mean_ap


def test_one_image_of_each_is_drawn():
    """An impostor stands between the two images of the person: right at first is right when the near one is drawn."""
    given_ = {
        "query_ids": WHO,
        "gallery_ids": np.array([1, 2, 1, 1]),
        "query_cameras": np.array([1]),
        "gallery_cameras": np.array([2, 2, 2, 1]),
        "protocol": "cuhk03-single-gallery-shot",
    }
    found = rank_task(RetrievalTask.of(ASKED, line(0.9, 0.8, 0.7, 0.95), **given_), draws=400)
    assert 0.4 < found.first_right[0] < 0.6
    assert found.mean_ap == pytest.approx((1 + found.first_right[0]) / 2)
    assert found.cmc[:2].tolist() == [pytest.approx(found.first_right[0]), 1]
    again, other = (rank(ASKED, line(0.9, 0.8, 0.7, 0.95), **given_, seed=seed) for seed in (0, 1))
    assert again.mean_ap == rank(ASKED, line(0.9, 0.8, 0.7, 0.95), **given_).mean_ap
    assert again.mean_ap != other.mean_ap


def test_a_tie_is_lost():
    gallery = line(0.8, 0.8, 0.8)
    for ids in ([1, 2, 3], [2, 3, 1]):
        assert rank(ASKED, gallery, query_ids=WHO, gallery_ids=np.array(ids)).mean_ap == pytest.approx(1 / 3)


@few
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.3, 0.1, 0.03, 1e-2, 1e-3, 3e-4]), st.sampled_from([3, 40]))
def test_nearly_equal_features_are_ranked_as_in_float64(seed, spread, width):
    """Rows at distances (1 - cosine) of about spread² around one vector, some of them equal but for their length."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=width)
    query, gallery = (
        np.float32(middle / np.linalg.norm(middle) + spread * rng.normal(size=(n, width)) / width**0.5) for n in (6, 25)
    )
    gallery[5:10] = gallery[10:15] * np.float32(2)
    columns = scene(seed, False)[2] | APART
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query.astype(float), gallery.astype(float))]
    similarity = -((unit[0][:, None] - unit[1]) ** 2).sum(axis=2)
    plain = [columns[k].tolist() for k in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    cmc, average, _ = literal.rank(similarity.tolist(), *plain, "market", 10)
    if cmc is None:
        return
    task = RetrievalTask.of(query, gallery, **columns, protocol="market")
    rounding = max(float(block.tie.max(initial=0)) for block in task.blocks(256))
    gaps = np.diff(np.sort(similarity / 2, axis=1))
    assume(not ((gaps > 0) & (gaps < 2 * rounding)).any())
    found = rank_task(task, ranks=10)
    assert found.cmc.tolist() == pytest.approx(cmc)
    assert found.average_precision.tolist() == pytest.approx([np.nan if x is None else x for x in average], nan_ok=True)
    lists = top(task, length=5)
    shown = np.take_along_axis(-similarity / 2, np.maximum(lists.index, 0), axis=1)
    np.testing.assert_allclose(
        lists.distance, np.where(lists.index < 0, np.nan, shown), rtol=1e-4, atol=rounding + 1e-7
    )


@pytest.mark.parametrize("width", [2, 64, 2048])
@pytest.mark.parametrize("noise", [0.0, 3e-7])
def test_equal_features_tie_whatever_their_length_and_rounding(width, noise):
    """The person's own image is never nearer than the others: each of 40 people asks for one of 500 rows."""
    rng = np.random.default_rng(0)
    row = rng.normal(size=width)
    rows = [row * rng.uniform(0.1, 9, (n, 1)) * (1 + noise * rng.uniform(-1, 1, (n, width))) for n in (40, 500)]
    images = {"query_images": np.arange(40), "gallery_images": np.arange(40, 540)}
    found = rank(*rows, query_ids=np.arange(40), gallery_ids=np.arange(500), **images)
    assert found.first_hit.tolist() == [500] * 40


def test_queries_without_a_match_are_told_apart():
    found = rank(
        line(1.0, 1.0, 1.0, 1.0),
        line(0.9, 0.8),
        query_ids=np.array([1, 2, 7, -1]),
        gallery_ids=np.array([1, 2]),
        query_cameras=np.array([1, 1, 1, 1]),
        gallery_cameras=np.array([1, 2]),
    )
    assert found.valid.tolist() == [False, True, False, False]
    assert np.isnan(found.average_precision[[0, 2, 3]]).all()
    assert sorted(found.reasons.values()) == [1, 1, 1]
    assert any("own camera" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query_ids": np.array([9])}, "no query has a match"),
        ({"query_ids": np.array([1, 2])}, "query_ids: must have one value for each of 1 feature, got 2"),
        ({"protocol": "market"}, "needs query_cameras and gallery_cameras"),
        ({"query": np.zeros((1, 2))}, "query: zero or not finite: 1 row"),
        ({"query": np.full((1, 2), np.nan)}, "query: zero or not finite: 1 row, the first is 0"),
        ({"query": np.ones((1, 3))}, "query features have 3 values and gallery features 2; embed both with one model"),
        (
            {"query_ids": np.array(["anna"])},
            "query_ids: must be whole numbers, got <U4 such as 'anna'; number the names",
        ),
        ({"gallery_ids": np.array([1.0, 2.0])}, "gallery_ids: must be whole numbers, got float64"),
        (
            {"query_cameras": np.array([3]), "gallery_cameras": np.array([3, 3])},
            "all images are of camera 3, and the protocol market looks for people in other cameras; give each",
        ),
        ({"query": np.zeros((0, 2)), "query_ids": np.zeros(0, int)}, "the query is empty; an evaluation needs"),
        ({"query": np.array([1.0, 0.0])}, "query: must be a matrix with one feature vector a row"),
        ({"query_ids": np.array([-2])}, "query_ids: must be 0 or more, or -1 for none, got -2"),
        ({"gallery_ids": np.array([1, -7], np.int8)}, "gallery_ids: .* got -7"),
        (
            {
                "query_cameras": np.array([-3]),
                "gallery_cameras": np.array([3, 4]),
            },
            "query_cameras: .* got -3",
        ),
        ({"gallery_ids": np.array([[1], [2]])}, "gallery_ids: must have one value for each of 2 features"),
        ({"query_ids": np.array([True])}, "query_ids: must be whole numbers, got bool"),
    ],
)
def test_mistakes_are_named(change, said, unchecked):
    given_ = {"query": ASKED, "query_ids": WHO, "gallery_ids": np.array([1, 2])} | change
    query = given_.pop("query")
    with pytest.raises(InputError, match=said):
        rank(query, line(0.9, 0.8), **given_)


WHOLE = st.sampled_from([np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])


@few
@given(st.integers(0, 10_000), st.lists(WHOLE, min_size=4, max_size=4), st.booleans())
def test_labels_count_by_value_whatever_their_dtype(seed, kinds, large):
    """Numbers as large as each dtype has them, which int64 may not hold: nobody becomes junk, and no two become one."""
    jaxtyping.config.update("jaxtyping_disable", True)  # annotations say Int; users may give unsigned numbers
    query, gallery, plain = scene(seed, coarse=False)
    plain = {name: np.maximum(column, 0) for name, column in plain.items()}
    plain["query_ids"][0] = plain["gallery_ids"][0] = 3
    plain["query_cameras"][0], plain["gallery_cameras"][0] = 0, 1
    of = dict(zip(plain, kinds, strict=True))
    columns = {}
    for name, column in plain.items():
        sides = [kind for other, kind in of.items() if other.endswith(name.rpartition("_")[2])]
        top = min(int(np.iinfo(side).max) for side in sides) - 9 if large else 0  # both sides are shifted alike
        columns[name] = (column.astype(object) + top).astype(of[name])
    expected, found = rank(query, gallery, **plain), rank(query, gallery, **columns)
    jaxtyping.config.update("jaxtyping_disable", False)
    assert found.average_precision.tolist() == pytest.approx(expected.average_precision.tolist(), nan_ok=True)
    assert found.reasons == expected.reasons


def test_unsigned_numbers_beyond_int64_beside_junk(unchecked):
    ids = np.array([2**63 + 5, 2**63 + 6, 2**64 - 1], np.uint64)
    found = rank(line(1.0, 0.0, 0.5), line(1.0, 0.0, 0.5), query_ids=ids, gallery_ids=ids[[1, 0, 2]],
                 query_images=np.arange(3), gallery_images=np.arange(3, 6))  # fmt: skip
    assert found.valid.all()
    assert found.first_right.tolist() == [0, 0, 1]
    mixed = rank(line(1.0), line(1.0, 0.9), query_ids=ids[:1], gallery_ids=ids[:2], gallery_images=np.array([-1, 3]),
                 query_images=np.array([9]))  # fmt: skip
    assert mixed.mean_ap == 1
    with pytest.raises(InputError, match="the query is junk"):
        rank(line(1.0), line(1.0, 0.9), query_ids=np.array([-1]), gallery_ids=ids[:2])


def test_unknown_protocol(unchecked):
    with pytest.raises(SettingsError, match="must be one of market, cross-camera, no-camera"):
        rank(ASKED, ASKED, query_ids=WHO, gallery_ids=WHO, protocol="mars")


def scene(seed, coarse):
    rng = np.random.default_rng(seed)
    q, g, d = 6, 25, 3
    draw = (lambda n: rng.integers(-1, 2, (n, d)) + 0.0) if coarse else (lambda n: rng.normal(size=(n, d)))
    query, gallery = draw(q), draw(g)
    for rows in (query, gallery):
        rows[~rows.any(1)] = 1
    return (
        query,
        gallery,
        {
            "query_ids": rng.integers(-1, 5, q),
            "gallery_ids": rng.integers(-1, 6, g),
            "query_cameras": rng.integers(0, 3, q),
            "gallery_cameras": rng.integers(0, 3, g),
        },
    )


APART = {"query_images": np.arange(6), "gallery_images": np.arange(6, 31)}  # all of a scene's images differ
protocols = st.sampled_from(["market", "cross-camera", "no-camera"])


def draws_of(columns, seed, draw):
    """The rows that the single-shot protocol draws, for each camera of queries."""
    out = {}
    for camera in set(columns["query_cameras"].tolist()):
        free = np.flatnonzero((columns["gallery_ids"] >= 0) & (columns["gallery_cameras"] != camera))
        shuffled = generator(seed, "single shot", draw, camera).permutation(free).tolist()
        out[camera] = {columns["gallery_ids"][row]: row for row in reversed(shuffled)}.values()
    return out


@few
@given(st.integers(0, 10_000), st.booleans())
def test_single_shots_are_the_literal_ones(seed, coarse):
    query, gallery, columns = scene(seed, coarse)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    similarity = np.round(unit[0] @ unit[1].T, 5).tolist()
    plain = [columns[k].tolist() for k in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    shots = [literal.rank(similarity, *plain, "cross-camera", 10, draws_of(columns, seed, draw)) for draw in range(3)]
    if shots[0][0] is None:
        return
    task = RetrievalTask.of(query, gallery, **columns, protocol="cuhk03-single-gallery-shot", seed=seed)
    found = rank_task(task, draws=3, ranks=10)
    assert found.cmc.tolist() == pytest.approx(np.mean([shot[0] for shot in shots], axis=0).tolist())
    average = np.mean([[np.nan if x is None else x for x in shot[1]] for shot in shots], axis=0)
    assert found.average_precision.tolist() == pytest.approx(average.tolist(), nan_ok=True)


@few
@given(st.integers(0, 10_000), st.booleans())
def test_tracklets_are_ranked_as_a_gallery_with_the_queries(seed, coarse):
    query, gallery, columns = scene(seed, coarse)
    joined = {
        k: np.concatenate([columns[k], columns[k.replace("gallery", "query")]]) for k in columns if "gallery" in k
    }
    try:
        expected = rank(query, np.concatenate([gallery, query]), **columns | joined, protocol="market")
    except InputError:
        return
    found = rank(query, gallery, **columns, protocol="video")
    assert found.mean_ap == pytest.approx(expected.mean_ap)


@few
@given(st.integers(0, 10_000), st.booleans(), protocols)
def test_ranking_is_the_literal_one(seed, coarse, protocol):
    query, gallery, columns = scene(seed, coarse)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    similarity = np.round(unit[0] @ unit[1].T, 5).tolist()
    cmc, average, penalty = literal.rank(
        similarity, *(columns[k].tolist() for k in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")),
        protocol, 10,
    )  # fmt: skip
    columns |= APART
    if cmc is None:
        with pytest.raises(InputError, match="no query has a match"):
            rank(query, gallery, **columns, protocol=protocol)
        return
    found = rank(query, gallery, **columns, protocol=protocol, ranks=10)
    assert found.cmc.tolist() == pytest.approx(cmc)
    assert found.average_precision.tolist() == pytest.approx([np.nan if x is None else x for x in average], nan_ok=True)
    assert found.inverse_negative_penalty.tolist() == pytest.approx(
        [np.nan if x is None else x for x in penalty], nan_ok=True
    )
    assert found.mean_ap == pytest.approx(np.mean([x for x in average if x is not None]))
    assert sum(found.reasons.values()) == average.count(None)


@few
@given(st.integers(0, 10_000), st.booleans(), protocols)
def test_an_image_on_both_sides_is_not_its_own_answer(seed, coarse, protocol):
    """Queries added to the gallery, by key or by features alone: without cameras, scores are as if they were not."""
    query, gallery, columns = scene(seed, coarse)
    joined = {
        k: np.concatenate([columns[k], columns[k.replace("gallery", "query")]]) for k in columns if "gallery" in k
    }
    keys = {"query_images": np.arange(6), "gallery_images": np.concatenate([np.arange(6, 31), np.arange(6)])}
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, np.concatenate([gallery, query]))]
    similarity = np.round(unit[0] @ unit[1].T, 5).tolist()
    plain = [(columns | joined)[k].tolist() for k in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    own = {q: {25 + q} for q in range(6)} if protocol == "no-camera" else {}
    cmc, average, _ = literal.rank(similarity, *plain, protocol, 10, own=own)
    everything = np.concatenate([gallery, query])
    if cmc is None:
        with pytest.raises(InputError, match="no query has a match"):
            rank(query, everything, **columns | joined, **keys, protocol=protocol)
        return
    found = rank(query, everything, **columns | joined, **keys, protocol=protocol, ranks=10)
    assert found.cmc.tolist() == pytest.approx(cmc)
    expected = [np.nan if x is None else x for x in average]
    assert found.average_precision.tolist() == pytest.approx(expected, nan_ok=True)
    lists = top(RetrievalTask.of(query, everything, **columns | joined, **keys, protocol=protocol), length=31)
    if protocol == "no-camera":
        assert not (lists.index == 25 + np.arange(6)[:, None]).any()
    if not coarse:  # where nobody else has the same features
        by_feature = rank(query, everything, **columns | joined, protocol=protocol, ranks=10)
        assert by_feature.average_precision.tolist() == pytest.approx(expected, nan_ok=True)


def test_features_that_are_all_alike_identify_no_image():
    ids = np.array([1, 1, 2, 2])
    found = rank(np.ones((4, 2)), np.ones((4, 2)), query_ids=ids, gallery_ids=ids)
    assert found.valid.all()
    assert found.cmc[0] == 0


def test_an_image_alone_in_the_gallery_has_no_match():
    with pytest.raises(InputError, match="the query's own image: 1"):
        rank(line(1.0), line(1.0, 0.5), query_ids=np.array([1]), gallery_ids=np.array([1, 2]))


@few
@given(st.integers(0, 10_000), protocols)
def test_neither_names_nor_order_nor_memory_change_the_scores(seed, protocol):
    query, gallery, columns = scene(seed, True)
    columns["query_ids"][0], columns["gallery_ids"][0] = 3, 3
    columns["query_cameras"][0], columns["gallery_cameras"][0] = 0, 1
    plain = rank(query, gallery, **columns, protocol=protocol)
    rng = np.random.default_rng(seed)
    name, order = rng.permutation(10), rng.permutation(len(gallery))
    renamed = {k: np.where(ids < 0, -1, name[ids]) if k.endswith("_ids") else ids for k, ids in columns.items()}
    renamed = {k: column[order] if k.startswith("gallery") else column for k, column in renamed.items()}
    other = rank_task(RetrievalTask.of(query, gallery[order], **renamed, protocol=protocol), memory_mb=1)
    assert other.mean_ap == pytest.approx(plain.mean_ap)
    assert other.mean_inp == pytest.approx(plain.mean_inp)
    assert other.cmc.tolist() == pytest.approx(plain.cmc.tolist())


@few
@given(st.integers(0, 10_000), protocols, st.sampled_from([1, 4, 25, 40]))
def test_top_lists_the_nearest_that_the_protocol_shows(seed, protocol, length):
    query, gallery, columns = scene(seed, False)
    found = top(RetrievalTask.of(query, gallery, **columns, protocol=protocol), length=length)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    for q, row in enumerate(1 - unit[0] @ unit[1].T):
        same = columns["gallery_cameras"] == columns["query_cameras"][q]
        person = columns["gallery_ids"] == columns["query_ids"][q]
        hidden = {"no-camera": same & False, "cross-camera": same, "market": same & person}[protocol]
        shown = np.flatnonzero(~hidden & (columns["gallery_ids"] >= 0))
        expected = shown[np.argsort(row[shown])][:length]
        assert found.index[q, : len(expected)].tolist() == expected.tolist()
        assert (found.index[q, len(expected) :] == -1).all()
        assert found.hit[q, : len(expected)].tolist() == person[expected].tolist()
        assert found.distance[q, : len(expected)].tolist() == pytest.approx(row[expected], abs=1e-5)
