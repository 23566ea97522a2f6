"""What notebooks show: small, escaped, and no scripts."""

from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest
import torch

import curvae
from curvae.data import from_array
from curvae.fitted import Fitted
from curvae.notebook import ROWS, html_table
from curvae.posteriors import DiagonalGaussian

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags that are open, and the words between them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert not attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def seen(value: object) -> Page:
    text = value._repr_html_()  # pyright: ignore[reportAttributeAccessIssue]
    page = Page(text)
    assert len(text) < 10_000
    assert set(page.tags) <= {"div", "b", "table", "tr", "td", "th", "p"}
    return page


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    frame = pandas.DataFrame(torch.randn(40, 2).numpy(), columns=[EVIL, "g"])
    out = tmp_path_factory.mktemp("notebook") / "run"
    return curvae.fit("vae", frame, latent=2, hidden=4, max_updates=2, out=out, progress=False)


def test_data_name_their_columns(fitted: Fitted):
    data = fitted.run.data()
    page = seen(data)
    assert page.words[0] == repr(data)
    assert EVIL in page.words
    assert seen(from_array(torch.rand(20, 4, 4).numpy())).tags == ["div", "b", "table"]


def test_a_fitted_system_says_what_it_is(fitted: Fitted):
    words = seen(fitted).words
    assert {"vae", "not evaluated", f"{EVIL}, g", str(fitted.path)} <= set(words)
    curvae.evaluate(fitted.path, samples=20, data=fitted.run.data(), progress=False)
    result = fitted.evaluation
    assert result is not None
    assert f"{result.log_likelihood} nats, test data" in seen(fitted).words
    assert next(name for name, _ in result.rows()) in seen(result).words
    assert [line.split("  ")[0] for line in str(result).splitlines()[1:] if line[0] != " "] == [
        name for name, _ in (*result.rows(), *(("warning", each) for each in result.warnings)) if name[0] != " "
    ]


def test_a_posterior_shows_its_first_examples():
    q = DiagonalGaussian(torch.zeros(1000, 20) + 1.5, torch.zeros(1000, 20) - 1)
    state = torch.get_rng_state()
    page = seen(q)
    assert torch.equal(torch.get_rng_state(), state)
    assert page.words[0].startswith("DiagonalGaussian of 1,000 examples, 20 latents")
    assert page.tags.count("tr") == 9
    assert page.words.count("1.5 ± 0.37") == 64


def test_long_tables_say_how_long():
    page = Page(html_table("x", ([j] for j in range(ROWS + 5))))
    assert page.words[-1] == "5 more rows"
    assert page.tags.count("tr") == ROWS


def test_a_network_that_normalizes_by_batch_is_given_two_rows(tmp_path: Path):
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    options = {"latent": 1, "hidden": 4, "decoder": net, "max_updates": 1, "progress": False, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match="batch_size: expected 2 or more with BatchNorm1d"):
        curvae.fit("vae", torch.randn(93, 2).numpy(), batch_size=1, **options)
    assert not (tmp_path / "run").exists()
    curvae.fit("vae", torch.randn(93, 2).numpy(), batch_size=32, **options)  # 65 rows: 32 and 33
