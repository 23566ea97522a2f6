"""The page of a run: everything of a whole folder, what is left out of others, and that nothing leaves the page."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from curvae.evaluation import Calibration
from curvae.evaluation.io import write_evaluation as write_evaluation
from curvae.report import write_report
from curvae.training import RunError
from curvae.training.run import files
from folders import reseal
from invented_run import arrays, calibration, curves, evaluation, make, per_datum

SECTIONS = {
    "warnings",
    "run",
    "results",
    "learning",
    "reconstructions",
    "samples",
    "completions",
    "quality",
    "latent",
    "covariances",
    "search",
    "per-datum",
    "kl",
    "information",
    "gaps",
    "calibration",
    "unknown",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Page":
    """The page of a whole folder, written once."""
    return Page(write_report(make(tmp_path_factory.mktemp("report") / "run")))


class Page(HTMLParser):
    """Tags with their attributes, ids of sections, and text outside of the style."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def sections(self) -> set[str | None]:
        return {attributes.get("id") for tag, attributes in self.tags if tag == "section"}

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def test_a_whole_run_has_every_section(whole: Page):
    assert whole.path.name == "report.html"
    assert whole.sections == SECTIONS
    assert "left out:" not in whole.text
    assert "This run less it, paired by datum: 7.18 ± 0.21 nats, 7.02 ± 0.22 nats over the data not" in whole.text
    assert "Left out: 3 elements never vary in training." in whole.text
    assert "log p(x) = −38.13 ± 0.31 nats" in whole.text
    assert "1 of 6 latent dimensions are collapsed." in whole.text
    assert whole.path.stat().st_size < 3e6


def test_contents_lead_to_the_sections(whole: Page):
    links = {attributes["href"] for tag, attributes in whole.tags if tag == "a"}
    assert links == {f"#{section}" for section in SECTIONS}


def test_nothing_is_fetched(whole: Page):
    sources = [attributes[name] for _, attributes in whole.tags for name in ("src", "href") if attributes.get(name)]
    assert all(source is not None and source.startswith(("data:image/", "#")) for source in sources)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in whole.tags}
    assert not re.search(r"https?://|@import|url\(", whole.source)


def test_every_image_has_a_text_and_is_not_blank(whole: Page):
    images = whole.images
    assert len(images) == 18
    for image in images:
        head, content = (image["src"] or "").split(",", 1)
        decoded = base64.b64decode(content, validate=True)
        assert len(image["alt"] or "") > 10
        if head == "data:image/png;base64":
            assert matplotlib.image.imread(io.BytesIO(decoded))[..., :3].std() > 0.01
        else:
            assert decoded.count(b"<path") > 20


def test_same_files_same_page(run: Path):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
    assert [file.name for file in run.iterdir() if file.name.startswith(".")] == []


def test_narrow_and_dark_screens_are_provided_for(whole: Page):
    source = whole.source
    assert 'name="viewport" content="width=device-width' in source
    assert "max-width: 600px" in source
    assert "prefers-color-scheme: dark" in source
    assert source.count("<table") == source.count('class="scroll"><table')


def test_without_an_evaluation_the_page_says_how_to_get_one(run: Path):
    for name in ("evaluation.json", "evaluation.npz", "pictures.npz", "gaps.json", "calibration.json", "ood.json"):
        (run / name).unlink()
    page = Page(write_report(run))
    assert page.sections == {"warnings", "run", "learning"}
    for command in ("evaluate run", "gaps run", "calibrate run", "ood run DATA"):
        assert f"curvae {command}" in page.text


def test_what_is_said_of_the_posterior(whole: Page):
    assert "5.10 ± 0.10 to 7.50 ± 0.20 nats" in whole.text
    assert "0 to 2.30 ± 0.10 nats" in whole.text
    assert "k-hat of log p(x) is above 0.7 for 2.0% of the data" in whole.text
    assert "it does not (p = 0.009)" in whole.text
    assert "Intervals of 90% hold 82.0 ± 1.0 % of the latents." in whole.text
    assert "0.700 ± 0.020" in whole.text
    assert "0.0123 ± 0.0021" in whole.text


def test_a_calibration_comes_back_as_it_was_but_for_the_order_of_data():
    made = calibration()
    again = Calibration.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict()


def test_a_bare_configuration_is_enough(tmp_path: Path):
    text = "{format: 1, curvae: null, system: {name: vae}, data: {}, training: {}}\n"
    (tmp_path / "config.yaml").write_text(text)
    page = Page(write_report(tmp_path))
    assert page.sections == {"warnings", "run"}
    assert "this run has no metrics.csv" in page.text


def test_a_table_has_parity_plots_and_a_plane(tmp_path: Path):
    page = Page(write_report(make(tmp_path / "table", event=(9,), latent=2)))
    assert page.sections == SECTIONS - {"completions"}
    assert "the first 6 of 9 columns" in page.text
    assert "in the latent plane" in page.text


def test_color_images_are_shown(tmp_path: Path):
    page = Page(write_report(make(tmp_path / "color", event=(3, 8, 8))))
    assert {"reconstructions", "samples"} <= page.sections


def test_one_latent_dimension_leaves_the_plane_out(tmp_path: Path):
    page = Page(write_report(make(tmp_path / "one", latent=1)))
    assert page.sections == SECTIONS - {"latent", "covariances"}
    assert "a plane needs two" in page.text


def test_an_encoder_alone_has_no_search(run: Path):
    kept = {name: value for name, value in arrays((1, 8, 8), 6).items() if not name.startswith("trace")}
    write_evaluation(run, evaluation(6).to_dict(), per_datum(), kept)
    page = Page(write_report(run))
    assert page.sections == SECTIONS - {"search"}
    assert "Mode search left out: this posterior comes from one pass of the encoder" in page.text


def test_hostile_names_are_text(tmp_path: Path):
    name = '<script>alert("1")</script>`$\\frac{`\''
    run = make(tmp_path / '<b onload="x">run', name=name)
    (run / "metrics.csv").write_text(curves().replace("laplace", "<i>$^$</i>\u2603\x07"))
    (run / "environment.json").write_text(
        json.dumps({"<img src=x>": '"><img src=y>', "device": "<u>", "data_checksum": ""})
    )
    reseal(run / "evaluation.json", {"unit": "<em>", "split": "<script>", "warnings": ["<script>"]})
    page = Page(write_report(run))
    assert name.replace("`", "") in page.text.replace("`", "")
    assert not {"script", "i", "u", "em"} & {tag for tag, _ in page.tags}
    assert all((image["src"] or "").startswith("data:") for image in page.images)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1\n- 2\n"),
        ("environment.json", "{"),
        ("metrics.csv", "stage,epoch\nvae,one\nvae,2\n"),
        ("metrics.csv", "stage,epoch\nvae\nvae,2\n"),
        ("evaluation.json", '{"format": 1, "log_likelihood": 3}'),
        ("evaluation.json", '{"format": 9}'),
        ("gaps.json", '{"format": 1, "members": 3}'),
        ("gaps.json", '{"format": 2}'),
        ("calibration.json", '{"format": 1, "names": ["z1"]}'),
        ("ood.json", '{"format": 1, "rows": 3}'),
        ("evaluation.npz", "not a zip file"),
        ("pictures.npz", ""),
    ],
)
def test_broken_files_are_named_in_one_line(run: Path, name: str, content: str):
    (run / name).write_text(content)
    with pytest.raises(RunError) as caught:
        write_report(run)
    assert str(caught.value).startswith(str(run / name))
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_pickles_are_refused(run: Path):
    with io.BytesIO() as file:
        np.savez(file, samples=np.array([{}], dtype=object))
        (run / "pictures.npz").write_bytes(file.getvalue())
    digests = json.loads((run / "evaluation.json").read_text())["files"]
    digests |= {"pictures.npz": files.digest((run / "pictures.npz").read_bytes())}
    reseal(run / "evaluation.json", {"files": digests})
    with pytest.raises(RunError, match=r"pictures\.npz: expected a \.npy array of numbers, got Object arrays"):
        write_report(run)


@pytest.mark.parametrize(("folder", "message"), [("none", "expected the folder of a run"), ("", "found none; is this")])
def test_other_folders_are_refused(tmp_path: Path, folder: str, message: str):
    with pytest.raises(RunError, match=message):
        write_report(tmp_path / folder)
