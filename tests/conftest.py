import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Every shape in an annotation is checked in every test.
install_import_hook("reappear", "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder of real footage, for tests marked `real`."""
    folder = Path(os.environ.get("REAPPEAR_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real footage is not here: set REAPPEAR_REAL_DATA ({folder} does not exist)")
    return folder
