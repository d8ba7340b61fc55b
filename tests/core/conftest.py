import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    """Users run without the checks of annotations that tests add: what they are told then is tested here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
