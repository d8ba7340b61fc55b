import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from reappear.core import InputError, SettingsError
from reappear.losses import IdentityDistillationLoss, chunked, identity_distillation
from tests.references import identity_distillation as reference


def _logits(seed: int, views: int, seen: int, ids: int, images: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    student = torch.randn(views, ids, images, width, generator=random, dtype=torch.float64)
    teacher = torch.randn(seen, ids, images, width, generator=random, dtype=torch.float64)
    return student, teacher


@pytest.mark.parametrize("weighting", ["equation", "official"])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    views=st.integers(2, 4),
    seen=st.integers(1, 2),
    ids=st.integers(1, 3),
    images=st.integers(1, 3),
)
def test_value_and_gradient_are_those_of_the_pair_loops(
    weighting: str, seed: int, views: int, seen: int, ids: int, images: int
) -> None:
    student, teacher = _logits(seed, views, seen, ids, images, 5)
    loss = IdentityDistillationLoss(5, student_temperature=0.3, teacher_temperature=0.2, weighting=weighting).double()
    loss.center.copy_(torch.linspace(-1, 1, 5))

    ours = student.clone().requires_grad_()
    value = loss(ours, teacher)
    value.backward()
    theirs = student.clone().requires_grad_()
    expected = getattr(reference, weighting)(theirs, teacher, loss.center, teacher_t=0.2, student_t=0.3)
    expected.backward()

    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("on", ["cpu", "gpu"])
@pytest.mark.parametrize(("kind", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("weighting", ["equation", "official"])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    views=st.integers(2, 4),
    seen=st.integers(1, 2),
    ids=st.integers(1, 3),
    images=st.integers(1, 3),
    scores=st.sampled_from([1, 40, 1 << 20]),
)
def test_at_the_bottleneck_value_and_gradients_are_those_of_the_pair_loops(
    weighting: str,
    kind: torch.dtype,
    close: float,
    on: str,
    seed: int,
    views: int,
    seen: int,
    ids: int,
    images: int,
    scores: int,
) -> None:
    width, prototypes = 4, 9
    random = torch.Generator().manual_seed(seed)
    vectors, teacher = (
        nn.functional.normalize(torch.randn(*shape, generator=random, dtype=torch.float64), dim=-1)
        for shape in ((views, ids, images, width), (seen, ids, images, prototypes))
    )
    rows = 0.1 + torch.randn(prototypes, width, generator=random, dtype=torch.float64)  # of any length
    loss = IdentityDistillationLoss(prototypes, teacher_temperature=0.2, weighting=weighting).to(kind)
    loss.center.copy_(torch.linspace(-0.1, 0.1, prototypes))

    ours = [x.to(kind, copy=True).requires_grad_() for x in (vectors, rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity_distillation, "_CACHED", ("cpu",) if on == "cpu" else ())
        patch.setattr(chunked, "_CACHE", scores)  # one prototype at a time, some, all
        value = loss.at_bottleneck(*ours, teacher.to(kind))
        value.backward()
    theirs = [x.clone().requires_grad_() for x in (vectors, rows)]
    expected = getattr(reference, weighting)(
        theirs[0] @ nn.functional.normalize(theirs[1], dim=-1).T,
        teacher,
        loss.center.double(),
        teacher_t=0.2,
        student_t=0.1,
    )
    expected.backward()

    torch.testing.assert_close(value.double(), expected, rtol=close, atol=close)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=close, atol=close)


def test_both_faces_are_one_loss() -> None:
    student, teacher = _logits(6, 3, 2, 2, 4, 8)
    rows = nn.functional.normalize(torch.randn(8, 8, dtype=torch.float64), dim=-1)
    loss = IdentityDistillationLoss(8).double()
    torch.testing.assert_close(loss.at_bottleneck(student, rows, teacher), loss(student @ rows.T, teacher))


def test_half_precision_vectors_are_compared_in_full_precision() -> None:
    student, teacher = (x.float() for x in _logits(7, 3, 2, 2, 2, 8))
    rows = nn.functional.normalize(torch.randn(8, 8), dim=-1)
    loss = IdentityDistillationLoss(8)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss.at_bottleneck(student.bfloat16(), rows, teacher.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss.at_bottleneck(student.bfloat16().float(), rows, teacher.bfloat16().float()))


def test_one_image_per_identity_is_dino() -> None:
    student, teacher = _logits(0, 4, 2, 6, 1, 7)
    values = [
        IdentityDistillationLoss(7, weighting=weighting).double()(student, teacher)
        for weighting in ("equation", "official")
    ]
    torch.testing.assert_close(values[0], values[1])


def test_order_of_images_and_identities_is_no_matter() -> None:
    student, teacher = _logits(1, 3, 2, 4, 3, 6)
    loss = IdentityDistillationLoss(6).double()
    people, images = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    shuffled = loss(student[:, people][:, :, images], teacher[:, people][:, :, images])
    torch.testing.assert_close(shuffled, loss(student, teacher))


def test_other_people_are_no_matter() -> None:
    student, teacher = _logits(2, 3, 2, 2, 2, 6)
    loss = IdentityDistillationLoss(6).double()
    apart = [loss(student[:, [p]], teacher[:, [p]]) for p in range(2)]
    torch.testing.assert_close(loss(student, teacher), (apart[0] + apart[1]) / 2)


def test_a_schedule_may_set_the_teacher_temperature() -> None:
    student, teacher = _logits(3, 3, 2, 2, 2, 6)
    warm = IdentityDistillationLoss(6, teacher_temperature=0.07).double()
    cold = IdentityDistillationLoss(6, teacher_temperature=0.04).double()
    torch.testing.assert_close(cold(student, teacher, teacher_temperature=0.07), warm(student, teacher))


def test_center_follows_equation_8_and_only_on_update() -> None:
    _, teacher = _logits(4, 2, 2, 3, 2, 5)
    loss = IdentityDistillationLoss(5, center_momentum=0.7).double()
    loss.center.copy_(torch.arange(5.0))
    before = loss.center.clone()
    loss(*_logits(4, 3, 2, 3, 2, 5))
    torch.testing.assert_close(loss.center, before)
    loss.update_center(teacher)
    torch.testing.assert_close(loss.center, reference.center(before, teacher, 0.7))


def test_the_center_is_part_of_the_state() -> None:
    assert "center" in IdentityDistillationLoss(5).state_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prototypes": 1}, "prototypes: must be 2 or more, got 1"),
        ({"prototypes": 5, "student_temperature": 0.0}, "student_temperature: must be above 0, got 0.0"),
        ({"prototypes": 5, "teacher_temperature": -1.0}, "teacher_temperature: must be above 0, got -1.0"),
        ({"prototypes": 5, "center_momentum": 1.5}, "center_momentum: must lie in 0..1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        IdentityDistillationLoss(**values)


def test_shapes_that_do_not_fit_are_refused() -> None:
    student, teacher = _logits(5, 2, 2, 2, 2, 5)
    with pytest.raises(InputError, match="logits are 6 wide"):
        IdentityDistillationLoss(6).double()(student, teacher)
    with pytest.raises(InputError, match="first views"):
        IdentityDistillationLoss(5).double()(student[:1], teacher)
    with pytest.raises(InputError, match="nothing to be compared"):
        IdentityDistillationLoss(5).double()(student[:1, :, :1], teacher[:1, :, :1])


class _Peak(TorchDispatchMode):
    """Most bytes of tensors alive at once, without those of the inputs."""

    def __init__(self, *inputs: torch.Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in inputs}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._alive:
            self._alive.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


@pytest.mark.parametrize("form", ["gpu", "logits"])
def test_memory_beside_gradients_is_at_most_that_of_the_logits(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_distillation, "_CACHED", ())
    views, ids, images, prototypes, width = 10, 15, 8, 8192, 256
    student = torch.randn(views, ids, images, width if form == "gpu" else prototypes, requires_grad=True)
    layer = torch.randn(prototypes, width, requires_grad=True)
    teacher = torch.randn(2, ids, images, prototypes)
    loss = IdentityDistillationLoss(prototypes)
    leaves = [student, layer] if form == "gpu" else [student]
    with _Peak(student, layer, teacher) as peak:
        value = loss.at_bottleneck(student, layer, teacher) if form == "gpu" else loss(student, teacher)
        gradients = torch.autograd.grad(value, leaves)
    beside = peak.peak - sum(gradient.nbytes for gradient in gradients)
    assert beside <= 4 * views * ids * images * prototypes


def test_gradients_scale_with_the_incoming_one_and_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_distillation, "_CACHED", ())
    student, teacher = _logits(8, 3, 2, 2, 2, 8)
    student.requires_grad_()
    rows = torch.randn(8, 8, dtype=torch.float64)
    loss = IdentityDistillationLoss(8).double()
    for form in (lambda: loss(student, teacher), lambda: loss.at_bottleneck(student, rows, teacher)):
        (whole,) = torch.autograd.grad(form(), student)
        value = form()
        (half,) = torch.autograd.grad(value / 2, student, retain_graph=True)
        torch.testing.assert_close(half, whole / 2)
        with pytest.raises(RuntimeError, match="taken before"):
            value.backward()
