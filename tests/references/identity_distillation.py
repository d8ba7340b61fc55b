"""CION's Eq. 8-9 and the public code's loss, as slow loops over pairs of rows."""

import torch
from torch import Tensor


def _cross_entropy(teacher: Tensor, student: Tensor, center: Tensor, teacher_t: float, student_t: float) -> Tensor:
    target = torch.softmax((teacher - center) / teacher_t, dim=-1)
    return -(target * torch.log_softmax(student / student_t, dim=-1)).sum()


def equation(student: Tensor, teacher: Tensor, center: Tensor, *, teacher_t: float, student_t: float) -> Tensor:
    """Eq. 9: all ordered pairs of images of an identity, all pairs of views, but the same view of the same image."""
    views, ids, images, _ = student.shape
    terms = []
    for p in range(ids):
        for i in range(images):
            for j in range(images):
                for g in range(len(teacher)):
                    for v in range(views):
                        if i == j and g == v:
                            continue
                        terms.append(_cross_entropy(teacher[g, p, i], student[v, p, j], center, teacher_t, student_t))
    return torch.stack(terms).mean()


def official(student: Tensor, teacher: Tensor, center: Tensor, *, teacher_t: float, student_t: float) -> Tensor:
    """The public code: v = g skipped whole; own images and others averaged apart, then 1 : N (N - 1)."""
    views, ids, images, _ = student.shape
    per_view_pair = []
    for g in range(len(teacher)):
        for v in range(views):
            if v == g:
                continue
            own, others = [], []
            for p in range(ids):
                for i in range(images):
                    for j in range(images):
                        term = _cross_entropy(teacher[g, p, i], student[v, p, j], center, teacher_t, student_t)
                        (own if i == j else others).append(term)
            weight = images * (images - 1)
            total = torch.stack(own).mean()
            if others:
                total = total + weight * torch.stack(others).mean()
            per_view_pair.append(total / (weight + 1))
    return torch.stack(per_view_pair).mean()


def center(old: Tensor, teacher: Tensor, momentum: float) -> Tensor:
    """Eq. 8."""
    rows = [row for view in teacher for identity in view for row in identity]
    return momentum * old + (1 - momentum) * sum(rows) / len(rows)
