import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    """Users run without the checks of annotations that tests add: the resulting messages are tested here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
