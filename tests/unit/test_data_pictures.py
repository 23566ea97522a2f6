"""Folders of pictures in, pictures out: labels by sub-folder, one size, no transparency, nothing of it silent."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curvae
from curvae.cli import main
from curvae.data import DataAdvice, DataError, Reading, from_array, from_file, reopen
from curvae.data.tables.files import match_file
from curvae.data.tables.summary import summarized

Image = pytest.importorskip("PIL.Image")
RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (24, 6, 5), np.uint8)
COLOR = RANDOM.integers(0, 256, (24, 6, 5, 3), np.uint8)


def saved(folder: Path, pictures: Any, name: str = "p{:02}.png", **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / name.format(number), **options)
    return folder


@pytest.mark.parametrize("pictures", [GRAY, COLOR])
def test_a_folder_holds_the_same_as_an_array(tmp_path: Path, pictures: Any):
    folder = saved(tmp_path / "pictures", pictures)
    data = from_file(folder)
    assert data.checksum == from_array(pictures).checksum
    assert data.spec.name == "pictures"
    assert data.train.raw.dtype == from_array(pictures).train.raw.dtype
    assert reopen(data.recipe, data.transform, data.checksum, data.schema).checksum == data.checksum
    assert match_file(data.schema, folder).rows.raw.shape[1:] == data.spec.event
    assert summarized(folder, Reading()).rows == 24


def test_sub_folders_are_labels(tmp_path: Path):
    for word, part in {"cat": GRAY[:12], "dog": GRAY[12:]}.items():
        saved(tmp_path / "p" / word, part)
    (tmp_path / "p" / "cat" / ".hidden.png").write_bytes(b"")
    data = from_file(tmp_path / "p")
    assert data.schema.vocabulary == ("cat", "dog")
    assert data.checksum == from_array(GRAY, ["cat"] * 12 + ["dog"] * 12).checksum
    assert [each.name for each in summarized(tmp_path / "p", Reading()).columns] == ["6 x 5", "label"]
    saved(tmp_path / "new" / "dog", GRAY[:3])
    assert list(match_file(data.schema, tmp_path / "new").labels) == ["dog"] * 3  # pyright: ignore
    saved(tmp_path / "p", GRAY[:1], "alone.png")
    with pytest.raises(DataError, match=r"expected all pictures in sub-folders, whose names are labels, got alone.png"):
        from_file(tmp_path / "p")


def test_parts_of_a_data_set_are_no_labels(tmp_path: Path):
    saved(tmp_path / "p" / "train", GRAY)
    saved(tmp_path / "p" / "test", GRAY[:5])
    with pytest.raises(DataError, match=r"expected labels as names of sub-folders, got test, train; name one of them"):
        from_file(tmp_path / "p")
    data = from_file(tmp_path / "p" / "train", test=tmp_path / "p" / "test")
    np.testing.assert_array_equal(data.test.raw[:, 0], GRAY[:5])


def test_pictures_of_every_kind(tmp_path: Path):
    jpeg = from_file(saved(tmp_path / "jpeg", COLOR, "p{}.JPG", quality=95))
    assert jpeg.spec.event == (3, 6, 5)
    mixed = saved(saved(tmp_path / "mixed", COLOR[:12], "a{:02}.png"), GRAY[:12], "b{:02}.png")
    (mixed / "notes.txt").write_text("by Ann")
    with pytest.warns(DataAdvice, match=r"color, as some pictures are.*1 files that are no .*notes.txt"):
        assert from_file(mixed).spec.event == (3, 6, 5)
    with pytest.warns(DataAdvice, match="16-bit gray levels as shares of 65,535"):
        deep = from_file(saved(tmp_path / "deep", GRAY.astype(np.uint16) * 257))
    np.testing.assert_allclose(np.sort(deep.train.raw.flatten())[-1], 1, atol=0.01)
    opaque = np.concatenate([COLOR, np.full((24, 6, 5, 1), 255, np.uint8)], -1)
    assert from_file(saved(tmp_path / "opaque", opaque)).checksum == from_array(COLOR).checksum
    turned = Image.Exif()
    turned[274] = 6
    assert from_file(saved(tmp_path / "turned", COLOR, "p{}.jpg", exif=turned)).spec.event == (3, 5, 6)


def test_hostile_folders_are_refused_in_one_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    several = saved(saved(tmp_path / "several", GRAY), GRAY[:2, :4], "small{}.png")
    clear = saved(tmp_path / "clear", np.concatenate([COLOR, np.full((24, 6, 5, 1), 9, np.uint8)], -1))
    broken = saved(tmp_path / "broken", GRAY)
    (broken / "p03.png").write_bytes((broken / "p03.png").read_bytes()[:60])
    other = saved(tmp_path / "other", GRAY)
    (other / "p03.png").write_bytes(b"GIF89a")
    depths = saved(saved(tmp_path / "depths", GRAY), GRAY[:2].astype(np.uint16) * 257, "z{}.png")
    for folder, message in {
        tmp_path / "empty": "expected pictures .* in the folder, got none",
        several: r"expected pictures of one size, 5 x 6 as most are, got 2 of 26 of others, the first 5 x 4 \(small0",
        clear: "expected a picture without transparency, got some; save it on a background",
        broken: "p03.png: expected a PNG or JPEG picture",
        other: "p03.png: expected a PNG or JPEG picture",
        depths: "expected all pictures in 16 bits as some are, got others in 8",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            from_file(folder)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = saved(tmp_path_factory.mktemp("in") / "pictures", GRAY)
    out = tmp_path_factory.mktemp("out") / "run"
    return curvae.fit("vae", folder, latent=2, hidden=8, max_updates=2, out=out, progress=False).path


def test_draws_come_out_as_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sample", str(run), "--n", "10", "--to", str(tmp_path / "all.png")]) == 0
    with Image.open(tmp_path / "all.png") as sheet:
        assert sheet.size[0] > sheet.size[1]
    assert main(["sample", str(run), "--n", "20", "--to", str(tmp_path / "each")]) == 0
    drawn = curvae.load(run).sample(20)
    again = from_file(tmp_path / "each")
    assert again.checksum == from_array(drawn[:, 0]).checksum
    assert main(["sample", str(run), "--to", str(tmp_path / "each")]) != 0
    assert "expected nothing there" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_draws_of_a_table_are_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fitted = curvae.fit(
        "vae", RANDOM.normal(size=(40, 3)), latent=1, hidden=4, max_updates=1, out=tmp_path / "run", progress=False
    )
    for name in ("all.png", "each"):
        assert main(["sample", str(fitted.path), "--to", str(tmp_path / name)]) != 0
        assert "expected .npz or .csv for draws of shape (3,)" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_pillow_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = saved(tmp_path / "p", GRAY)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DataError, match=r"pip install 'curvae\[images\]'"):
        from_file(folder)


def test_commands_take_a_folder(run: Path, tmp_path: Path):
    folder = saved(tmp_path / "new" / "cat", GRAY[:6]).parent
    code = "import sys; from curvae.cli import main; sys.exit(main(sys.argv[1:]))"
    told = subprocess.run([sys.executable, "-c", code, "data", str(folder)], capture_output=True, text=True, check=True)
    assert "6 x 5" in told.stdout
    assert main(["encode", str(run), str(folder), "--to", str(tmp_path / "z.csv")]) == 0
    assert (tmp_path / "z.csv").read_text().splitlines()[1].endswith("cat")
