"""The wheel: what users install holds the cards and the corpus, and nothing else is needed."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRY = """
from pathlib import Path
import fewtext
from fewtext import DataCard, load_texts
assert Path(fewtext.__file__).parents[1] == Path({place!r}), fewtext.__file__
assert len(DataCard.names()) >= 9
assert len(load_texts("everyday")) == 1890
"""


def test_the_wheel_holds_the_cards_and_the_corpus(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"fewtext"}
    assert "fewtext/py.typed" in names
    place = str(tmp_path / "site")
    code = f"import sys; sys.path.insert(0, {place!r})\n" + TRY.format(place=place)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_an_editable_install_finds_the_cards_beside_the_package():
    from fewtext.data.card import cards_folder

    assert (cards_folder() / "everyday.md").is_file()
