import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup or `&`: commands that tests start would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: a commit fails for what it changes. Others: `pytest --hypothesis-profile default`.
# In both a slow machine fails no test.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("default"), derandomize=True)
settings.load_profile("same")

# Weights of this machine's user change no test; commands that tests start see this too.
os.environ["REAPPEAR_HOME"] = str(Path(__file__).parent / "no-home")

# Every shape in an annotation is checked in every test.
install_import_hook("reappear", "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of real footage, for tests marked `real`."""
    folder = Path(os.environ.get("REAPPEAR_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real footage is not here: set REAPPEAR_REAL_DATA ({folder} does not exist)")
    return folder


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> Path:
    """Twelve people in the films of two cameras, and six others in the test set; rendered once for all test workers."""
    from reappear.core import WorkspaceError
    from reappear.pipeline.synthesize import SynthesizeSettings, synthesize

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "tiny_world"
    settings = SynthesizeSettings(people=12, test_people=6, cameras=2, films=2, appearances=3, workers=1)
    while True:
        try:
            synthesize(folder, settings)
        except WorkspaceError:  # another worker is filming it
            time.sleep(0.2)
        else:
            return folder
