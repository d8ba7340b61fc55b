"""CION Eq. 1-7 as slow loops, one line of the paper at a time, float64 throughout."""

import math

RESOLUTION = 1e-6


def mean(xs):
    return [sum(column) / len(xs) for column in zip(*xs, strict=True)]


def unit(x):
    norm = math.sqrt(sum(v * v for v in x))
    return [v / norm for v in x]


def dist(a, b):
    na, nb = (math.sqrt(sum(v * v for v in x)) for x in (a, b))
    if na < 1e-5 or nb < 1e-5:
        return 1.0
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (na * nb)


def at_least(d, sigma):
    return d >= sigma - RESOLUTION


def at_most(d, sigma):
    return d <= sigma + RESOLUTION


def members(owner, k):
    return [i for i, o in enumerate(owner) if o == k]


def noise_score(x, identity, sigma_cst, sigma_drm):
    """Eq. 1-3; `identity` per crop, -1 = discarded."""
    names = sorted({k for k in identity if k >= 0})
    if not names:
        return 0.0
    centers = {k: mean([x[i] for i in members(identity, k)]) for k in names}
    n_cst = 0
    for k in names:
        radius = max(dist(x[i], centers[k]) for i in members(identity, k))
        n_cst += at_least(radius, sigma_cst)
    n_drm = 0
    for i in names:
        for j in names:
            if i != j:
                n_drm += at_most(dist(centers[i], centers[j]), sigma_drm)
    return (n_cst + n_drm) / len(names)


def single_tracklet(x, tracklet, sigma_cst):
    """Eq. 4: the tracklet of each crop, -1 = excluded."""
    out = list(tracklet)
    for k in sorted(set(tracklet) - {-1}):
        while True:
            here = members(out, k)
            if len(here) < 2:
                break
            far = [dist(x[i], mean([x[j] for j in here if j != i])) for i in here]
            worst = next(n for n, d in enumerate(far) if d >= max(far) - RESOLUTION)
            if not at_least(far[worst], sigma_cst):
                break
            out[here[worst]] = -1
    return out


def reallocate(x, tracklet, origin, video, sigma_cst, targets):
    """Eq. 5: the tracklet of each crop; `video` per tracklet."""
    out = list(tracklet)
    frozen = {k: [x[i] for i in members(tracklet, k)] for k in range(len(video))}
    for i in range(len(x)):
        if tracklet[i] >= 0:
            continue
        candidates = {}
        for k in range(len(video)):
            rows = frozen[k] if targets == "frozen" else [x[j] for j in members(out, k)]
            if frozen[k] and k != origin[i] and video[k] == video[origin[i]]:
                candidates[k] = dist(x[i], mean(rows))
        if candidates:
            nearest = min(k for k, d in candidates.items() if d <= min(candidates.values()) + RESOLUTION)
            if not at_least(candidates[nearest], sigma_cst):
                out[i] = nearest
    return out


def closure(count, pairs):
    group = list(range(count))
    for a, b in pairs:
        old, new = group[b], group[a]
        group = [new if g == old else g for g in group]
    return group


def merge(x, tracklet, identity, video, sigma_drm, radius):
    """Eq. 6 (`radius` None: pairs of one video) and Eq. 7: the identity of each tracklet."""
    filled = [t for t in range(len(identity)) if t in tracklet]
    names = []
    for t in filled:
        if identity[t] not in names:
            names.append(identity[t])
    centers = [mean([x[i] for i, t in enumerate(tracklet) if t >= 0 and identity[t] == name]) for name in names]
    where = [{video[t] for t in filled if identity[t] == name} for name in names]
    pairs = []
    for c in range(len(names)):
        for i in range(len(names)):
            near = (where[i] == where[c]) if radius is None else (abs(i - c) <= radius)
            if i != c and near and at_most(dist(centers[i], centers[c]), sigma_drm):
                pairs.append((i, c))
    group = closure(len(names), pairs)
    order = []
    for g in group:
        if g not in order:
            order.append(g)
    return [order.index(group[names.index(identity[t])]) if t in filled else -1 for t in range(len(identity))]
