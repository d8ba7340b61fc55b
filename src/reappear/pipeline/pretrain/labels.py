"""Labels that a method trains on."""

from reappear.core import SettingsError
from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings


def labels_of(method: MethodSettings, labels: str | None) -> str:
    """Name of the labels to train on; the default depends on the method.

    Raises:
        SettingsError: The method needs other labels.
    """
    own = spec_of(method).labels
    if own == "identities":
        return labels or "round0"
    if labels not in (None, own):
        raise SettingsError(f"labels: method {method.kind} learns from labels {own}, got {labels}; leave them out")
    return own
