import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError
from reappear.metrics import rank, top
from tests.references import ranking as literal

few = settings(max_examples=60, deadline=None, derandomize=True)


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
        ("market", 1 / 2),  # the own camera's image of the person is passed over, its stranger is not
        ("cross-camera", 1.0),
        ("no-camera", (1 + 2 / 3) / 2),
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


def test_a_tie_is_lost():
    gallery = line(0.8, 0.8, 0.8)
    for ids in ([1, 2, 3], [2, 3, 1]):
        assert rank(ASKED, gallery, query_ids=WHO, gallery_ids=np.array(ids)).mean_ap == pytest.approx(1 / 3)


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
        ({"query_ids": np.array([1, 2])}, "query_ids: must have one value for each of 1 features, got 2"),
        ({"protocol": "market"}, "needs query_cameras and gallery_cameras"),
        ({"query": np.zeros((1, 2))}, "query: 1 rows are zero"),
        ({"query": np.full((1, 2), np.nan)}, "query: 1 rows are zero or not finite"),
        ({"query": np.ones((1, 3))}, "embed both with one model"),
    ],
)
def test_mistakes_are_named(change, said, unchecked):
    given_ = {"query": ASKED, "query_ids": WHO, "gallery_ids": np.array([1, 2])} | change
    query = given_.pop("query")
    with pytest.raises(InputError, match=said):
        rank(query, line(0.9, 0.8), **given_)


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


protocols = st.sampled_from(["market", "cross-camera", "no-camera"])


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
    other = rank(query, gallery[order], **renamed, protocol=protocol, memory_mb=1)
    assert other.mean_ap == pytest.approx(plain.mean_ap)
    assert other.mean_inp == pytest.approx(plain.mean_inp)
    assert other.cmc.tolist() == pytest.approx(plain.cmc.tolist())


@few
@given(st.integers(0, 10_000), protocols, st.sampled_from([1, 4, 25, 40]))
def test_top_lists_the_nearest_that_the_protocol_shows(seed, protocol, length):
    query, gallery, columns = scene(seed, False)
    found = top(query, gallery, **columns, protocol=protocol, length=length)
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
